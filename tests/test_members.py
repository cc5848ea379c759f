"""Members: folds, keys, row order and index tables."""

import jax
import numpy as np
import pytest

from moa_jax.training import members
from moa_jax.training.members import Member, MemberId

FOLDS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def make(seed=3, fold=1):
    return members.cross_validation({seed: FOLDS}, base_seed=0)[fold]


def test_cross_validation_orders_seeds_then_folds():
    made = members.cross_validation({5: FOLDS, 2: FOLDS}, base_seed=0)
    assert [(m.seed, m.fold) for m in made] == [(5, 0), (5, 1), (5, 2), (2, 0), (2, 1), (2, 2)]
    assert made[1].valid_rows.tolist() == [1, 4, 7]
    assert made[1].select_rows.tolist() == [1, 4, 7]
    assert made[1].train_rows.tolist() == [0, 2, 3, 5, 6, 8, 9]
    assert made[1].name == "seed5_fold1"


def test_honest_members_select_on_rows_they_do_not_train_on_nor_report():
    folds = np.arange(200) % 4
    for member in members.cross_validation({1: folds, 2: folds}, base_seed=0, select_on="holdout"):
        parts = [member.train_rows, member.select_rows, member.valid_rows]
        assert len(member.select_rows) == 15  # a tenth of 150
        assert sorted(np.concatenate(parts).tolist()) == list(range(200))


def test_what_decides_is_named():
    with pytest.raises(ValueError, match="select_on: expected fold or holdout, found 'honest'"):
        members.cross_validation({1: FOLDS}, base_seed=0, select_on="honest")


def test_order_is_a_permutation_that_depends_on_seed_and_epoch():
    first = members.epoch_order(0, make(), 0, share_across_folds=False)
    assert sorted(first.tolist()) == make().train_rows.tolist()
    again = members.epoch_order(0, make(), 0, share_across_folds=False)
    np.testing.assert_array_equal(first, again)
    for other in (
        members.epoch_order(0, make(), 1, share_across_folds=False),
        members.epoch_order(1, make(), 0, share_across_folds=False),
        members.epoch_order(0, make(seed=4), 0, share_across_folds=False),
    ):
        assert first.tolist() != other.tolist()


def test_shared_order_permutes_all_folds_of_a_seed_alike():
    folds = np.arange(40) % 2
    one, two = members.cross_validation({0: folds}, base_seed=0)
    positions = [
        np.searchsorted(m.train_rows, members.epoch_order(0, m, 2, share_across_folds=True))
        for m in (one, two)
    ]
    np.testing.assert_array_equal(*positions)


def test_key_follows_identity():
    def data(member, share):
        return jax.random.key_data(members.member_key(7, member, share)).tolist()

    assert data(make(fold=0), True) == data(make(fold=2), True)
    assert data(make(fold=0), False) != data(make(fold=2), False)
    assert data(make(seed=3), True) != data(make(seed=4), True)


def test_index_table_pads_behind_the_real_rows():
    table, counts = members.index_table(np.array([5, 6, 7, 8, 9]), batch_size=3, num_steps=3)
    assert table.tolist() == [[5, 6, 7], [8, 9, 0], [0, 0, 0]]
    assert counts.tolist() == [3, 2, 0]
    assert table.dtype == counts.dtype == np.int32


def test_last_batch_of_one_row_takes_another_from_the_batch_before():
    rows = np.array([5, 6, 7, 8, 9, 10, 11])
    table, counts = members.index_table(rows, batch_size=3, num_steps=3, smallest_batch=2)
    assert counts.tolist() == [3, 2, 2]
    assert table.tolist() == [[5, 6, 7], [8, 9, 0], [10, 11, 0]]


def test_a_single_batch_is_left_as_it_is():
    _, counts = members.index_table(np.array([4]), batch_size=3, num_steps=1, smallest_batch=2)
    assert counts.tolist() == [1]


def test_stacked_tables_have_one_shape():
    table, counts = members.stacked_tables([np.arange(5), np.arange(2)], 2, 4)
    assert table.shape == (2, 4, 2)
    assert counts.tolist() == [[2, 2, 1, 0], [2, 0, 0, 0]]


def test_member_is_frozen_and_named():
    member = Member(0, 4, np.arange(2), np.arange(1), np.arange(1))
    assert member.name == "seed0_fold4"
    assert member.id == MemberId(0, 4) and member.id.name == member.name


def test_members_of_a_nested_stage_leave_out_every_pair_of_blocks():
    folds = np.arange(30) % 6
    made = members.cross_validation({4: folds}, 0, nesting=members.Nesting(3, 2))
    assert [m.blocks for m in made] == [(0, 1), (0, 2), (1, 2)]
    assert [m.name for m in made] == ["seed4_without0-1", "seed4_without0-2", "seed4_without1-2"]
    for member in made:
        assert set(folds[member.valid_rows] % 3) == set(member.blocks)
        assert not set(folds[member.train_rows] % 3) & set(member.blocks)
        assert len(member.valid_rows) + len(member.train_rows) == 30


def test_members_of_the_last_stage_leave_out_a_fold_and_know_its_block():
    folds = np.arange(30) % 6
    made = members.cross_validation({4: folds}, 0, nesting=members.Nesting(3, 1))
    assert [m.blocks for m in made] == [(0,), (1,), (2,), (0,), (1,), (2,)]
    plain = members.cross_validation({4: folds}, 0)
    for member, other in zip(made, plain, strict=True):
        assert member.name == other.name
        np.testing.assert_array_equal(member.train_rows, other.train_rows)
