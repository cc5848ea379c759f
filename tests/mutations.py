"""Mutations: one-line mistakes in the product, and for each the tests that must catch it.

`bash launch/test.sh --mutations` plants one after another in a copy of the checkout, runs the tests
named beside it and expects them to fail; arguments choose those whose file or text has the words
given. The status is 1 if one survives, if a test fails without any, or if an entry no longer fits
the product.

Why a literal list: mutmut and cosmic-ray exchange operators and constants within an expression.
That makes thousands of mutants of this package, most of them in arithmetic that reference arrays
hold, and each takes a run of the suite; what they cannot do is what goes wrong here: a field of the
configuration that reaches nothing, a fold that reads another one's rows, an argument that is handed
on in the wrong place. So each entry is such a mistake, one that reads well, and its tests are few
enough to take seconds.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "moa_jax"
# A hanging mutant is one that nothing catches.
LONGEST_SECONDS = 600
FAILED, PASSED = 1, 0  # pytest's exit statuses; others are mistakes in the entry


class Mutation(NamedTuple):
    """A mistake.

    Attributes:
      file: the file, from `moa_jax/`; those of the benchmarks begin with `../`.
      old: text that stands in it once.
      new: what takes its place.
      tests: tests that must fail then, from `tests/`, separated by spaces.
    """

    file: str
    old: str
    new: str
    tests: str

    def mutated(self, text: str) -> str:
        """Returns the file's text with the mistake.

        Raises:
          ValueError: the old text does not stand in it exactly once.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file}: expected once, found {count} times: {self.old}")
        return text.replace(self.old, self.new)

    def selected(self) -> list[str]:
        """Returns the tests as pytest takes them from the checkout's folder."""
        return [f"tests/{test}" for test in self.tests.split()]

    @property
    def title(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())} -> {' '.join(self.new.split())}"


MUTATIONS = (
    # What is around a command or an estimator: streams, settings of JAX, threads, kinds of tables.
    Mutation(
        "store/ending.py",
        "    streams.open_closed()\n",
        "",
        "trust/test_streams.py::test_a_closed_stream_is_no_place_for_a_file",
    ),
    Mutation(
        "command/entry.py",
        "streams.say(fields.text(config))",
        "print(fields.text(config))",
        "trust/test_streams.py::test_who_reads_may_leave",
    ),
    Mutation(
        "command/entry.py",
        "    with conventions.usual():\n",
        "    if True:\n",
        "test_conventions.py::test_the_command_has_them",
    ),
    Mutation(
        "command/entry.py",
        "        _run(jax, config)\n",
        "        jax.devices()\n        _run(jax, config)\n",
        "e2e/test_processes.py::test_who_takes_part_must_be_known",
    ),
    Mutation(
        "engine/finished_run.py",
        'conventions.usual(), jax.enable_x64(config.precision == "float64")',
        'jax.enable_x64(config.precision == "float64")',
        "test_conventions.py::test_estimators_have_them",
    ),
    Mutation(
        "training/loop.py",
        "            ONE_AT_A_TIME,\n",
        "",
        "test_threads.py::test_estimators_are_fitted_in_threads",
    ),
    Mutation(
        "estimators/mechanism_classifier.py",
        '        table = mechanism_inputs.named(table, getattr(self, "feature_names_in_", None))\n',
        "",
        "test_mechanism_classifier.py::test_columns_without_names_are_those_of_fit_by_their_places",
    ),
    Mutation(
        "estimators/tabnet_supervised.py",
        "check_array(checks.plain(y), ",
        "check_array(y, ",
        "test_tabnet_inputs.py::test_targets_are_made_plain_before_anything_looks_at_them",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        '        checks.check_size(X, getattr(self, "feature_names_in_", None))\n',
        "",
        "test_tabnet_estimators.py::test_numbers_that_networks_cannot_compute_with",
    ),
    Mutation(
        "estimators/tabnet_columns.py",
        "deviation = spread * np.sqrt(np.square(away, out=away).mean(axis=0))",
        "deviation = np.ones(len(spread))",
        "test_tabnet_estimators.py::test_columns_of_any_scale_are_learned_alike",
    ),
    Mutation(
        "estimators/tabnet_columns.py",
        "        away /= np.where(is_constant, 1, spread)\n"
        "        deviation = spread * np.sqrt(np.square(away, out=away).mean(axis=0))\n",
        "        deviation = np.sqrt(np.square(away, out=away).mean(axis=0))\n",
        "test_tabnet_columns.py"
        "::test_constant_is_what_rounding_leaves_of_the_numbers_that_were_given",
    ),
    Mutation(
        "estimators/tabnet_columns.py",
        "mean[list(codes)], deviation[list(codes)] = 0, 1",
        "pass",
        "test_tabnet_columns.py::test_columns_are_standardised_and_codes_are_not",
    ),
    Mutation(
        "estimators/tabnet_columns.py",
        "np.clip(scaled, -LARGEST_NUMBER, LARGEST_NUMBER, out=scaled).astype",
        "scaled.astype",
        "test_tabnet_columns.py::test_what_is_far_out_is_as_far_as_networks_compute",
    ),
    Mutation(
        "estimators/tabnet_columns.py",
        "is_constant | (deviation == 0)",
        "is_constant",
        "test_tabnet_columns.py::test_the_smallest_numbers_there_are_have_a_deviation",
    ),
    Mutation(
        "estimators/tabnet_columns.py",
        'np.errstate(over="ignore")',
        "np.errstate()",
        "test_tabnet_columns.py::test_what_is_far_out_is_as_far_as_networks_compute",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "self.columns_ = self.columns_.in_units_of(earlier)",
        "pass",
        "test_tabnet_columns.py::test_weights_that_know_a_code_keep_it",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "tabnet_columns.place_absent(self._encoder_variables, self._tables(), X[train])",
        "tabnet_columns.place_absent(self._encoder_variables, self._tables(), X)",
        "test_tabnet_columns.py::test_rows_that_are_held_out_are_no_training_rows",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "        if start is None:\n            tabnet_columns",
        "        if True:\n            tabnet_columns",
        "test_tabnet_columns.py::test_weights_that_know_a_code_keep_it",
    ),
    Mutation(
        "estimators/tabnet_supervised.py",
        "            units = from_unsupervised.columns_\n",
        "",
        "test_tabnet_columns.py::test_weights_that_know_a_code_keep_it",
    ),
    Mutation(
        "estimators/tabnet_inputs.py",
        "np.ldexp(weights[kept], -np.frexp(weights.max())[1])",
        "weights[kept]",
        "test_tabnet_inputs.py::test_weights_of_any_size_have_a_sum",
    ),
    Mutation(
        "estimators/deep_insight.py",
        "checks.seed(self.random_state)",
        "self.random_state",
        "test_deepinsight.py::test_generators_are_seeds",
    ),
    Mutation(
        "estimators/deep_insight.py",
        "if not self.scale_.maximum_ and np.ptp(X):",
        "if not self.scale_.maximum_:",
        "test_deepinsight.py::test_numbers_beside_which_1_is_everything_are_told",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "@functools.lru_cache(reuse.MOST_PROGRAMS)",
        "@functools.cache",
        "test_tabnet_inputs.py::test_programs_of_predictions_are_those_used_last",
    ),
    Mutation(
        "estimators/mechanism_classifier.py",
        "stacklevel=3",
        "stacklevel=2",
        "test_mechanism_classifier.py::test_an_answer_among_the_columns_is_told",
    ),
    Mutation(
        "estimators/refit.py",
        "            vars(self).clear()\n",
        "",
        "test_refit.py::test_what_was_never_fitted_is_not_fitted",
    ),
    *(
        Mutation(
            f"estimators/{name}.py",
            "    @refit.all_or_nothing\n",
            "",
            "test_refit.py::test_an_interrupted_fit",
        )
        for name in (
            "deep_insight",
            "mechanism_classifier",
            "tabnet_classifier",
            "tabnet_pretrainer",
            "tabnet_regressor",
        )
    ),
    *(
        Mutation(
            "training/conventions.py",
            line,
            "contextlib.nullcontext(),",
            "test_conventions.py::test_they_are_the_usual_ones_within",
        )
        for line in ("jax.debug_infs(False),", 'jax.default_prng_impl("threefry2x32"),')
    ),
    Mutation(
        "training/conventions.py",
        "if _first_process() != os.getpid():",
        "if not _first_process():",
        "test_conventions.py::test_a_fork_is_told_and_does_not_wait_for_ever",
    ),
    Mutation(
        "training/conventions.py",
        "        _without_mesh(),\n",
        "",
        "test_conventions.py::test_a_mesh_of_the_callers_own",
    ),
    Mutation(
        "training/lanes.py",
        "        with here():\n            return function(*own)",
        "        return function(*own)",
        "test_lanes.py::test_what_this_thread_asks_of_jax_holds_for_all_lanes",
    ),
    Mutation(
        "training/parallel.py",
        "devices = tuple(jax.device_put(np.zeros(())).devices())",
        "devices = devices[:1]",
        "test_parallel.py::test_one_device_is_the_one_that_is_chosen",
    ),
    Mutation(
        "data/names.py",
        "text = on_one_line(name_of(text))",
        "text = name_of(text)",
        "test_formats.py::test_a_line_break_in_the_name_of_a_compound_is_a_space",
    ),
    # The ensembles from Python.
    Mutation(
        "estimators/mechanism_classifier.py",
        "groups = self._group_column() if groups is None else groups",
        "pass",
        "test_mechanism_classifier.py::test_groups_are_kept_whole",
    ),
    Mutation(
        "estimators/mechanism_classifier.py",
        "if (weights != weights[0]).any():",
        "if False:",
        "test_mechanism_classifier.py::test_mistakes_in_data",
    ),
    Mutation(
        "estimators/mechanism_classifier.py",
        "None if state is None else int(state),",
        "None,",
        "test_mechanism_classifier.py::test_searches_and_cross_validation",
    ),
    Mutation(
        "estimators/mechanism_targets.py",
        '    row_names.check_order("Y", row_names.as_pandas(X), Y)\n',
        "    pass\n",
        "test_mechanism_classifier.py::test_mistakes_in_data",
    ),
    Mutation(
        "estimators/mechanism_inputs.py",
        '    row_names.check_order("groups", X, groups)\n',
        "",
        "test_mechanism_classifier.py::test_mistakes_in_data",
    ),
    Mutation(
        "estimators/mechanism_inputs.py",
        "    for column, text in checks.texts(values):\n",
        "    for column, text in ():\n",
        "test_mechanism_classifier.py::test_mistakes_in_data",
    ),
    Mutation(
        "estimators/mechanism_targets.py",
        "targets.known[~is_control].any(0)",
        "targets.known.any(0)",
        "test_mechanism_classifier.py::test_a_label_that_is_known_of_controls_alone",
    ),
    Mutation(
        "training/progress.py",
        "member.id.place if nested else ",
        "",
        "test_progress.py::test_members_of_a_nested_stage_are_told_by_what_they_leave_out",
    ),
    Mutation(
        "report/ranking.py",
        "    if model.is_ensemble:\n        return None\n",
        "",
        "test_report.py::test_members_of_an_ensemble_are_no_seeds_of_a_model",
    ),
    Mutation(
        "engine/finished_run.py",
        'hits.read_csv(self.folder / "blend" / "mechanisms.csv", "mechanism")',
        'hits.read_csv(self.folder / "blend" / "mechanisms.csv")',
        "answers/test_answer_files.py::"
        "test_scores_of_a_finished_run_have_the_names_of_its_mechanisms",
    ),
    Mutation(
        "engine/explanation.py",
        "    files.remove(path)\n",
        "",
        "test_handover.py::test_what_fails_to_be_explained_is_blended_all_the_same",
    ),
    Mutation(
        "training/loop.py",
        "group.batches(epoch + 1, 0)",
        "pass",
        "test_loop.py::test_the_next_epochs_table_is_made_while_the_devices_compute",
    ),
    Mutation(
        "answers/confidence.py",
        "(score >= common) & (count > 0)",
        "score >= common",
        "answers/test_confidence.py::test_a_cell_that_is_not_known_moves_no_threshold",
    ),
    Mutation(
        "recipes/baseline.py",
        'if learners.judged_by_one(most, most * record["outputs"]):',
        "if False:",
        "test_baseline.py::test_notes_tell_what_chose_a_strength",
    ),
    Mutation(
        "engine/run.py",
        "        train_on_other_folds(config, workdir, dataset)\n        blend",
        "        blend",
        "test_other_folds.py::test_a_run_from_python_has_both_scores_too",
    ),
    Mutation(
        "report/findings.py",
        'known_compounds=stored.get("known_compounds"),',
        "",
        "test_findings.py::test_known_compounds_are_read",
    ),
    Mutation(
        "report/analysis.py",
        "trained = set(dataset.drug_id[~dataset.is_control])",
        "trained = set(dataset.drug_id)",
        "test_analysis.py::test_compounds_to_predict_that_have_training_wells_are_counted",
    ),
    Mutation(
        "report/analysis.py",
        "if len(ids) > 1:",
        "if True:",
        "test_analysis.py::test_one_test_row_or_none_correlates_nothing",
    ),
    Mutation(
        "report/ranking.py",
        "own is None or len(scored) < len(models)",
        "own is None",
        "test_report.py::test_beside_a_model_without_a_score_none_is_the_best",
    ),
    Mutation(
        "report/answers_record.py",
        'self.of("baseline") + self.of("constant")',
        'self.of("baseline") or self.of("constant")',
        "answers/test_answer_words.py::test_a_blend_that_knows_no_more_than_shares_is_not_praised",
    ),
    Mutation(
        "report/answers_record.py",
        "for end in (score.above, score.above_low)]",
        "for end in (score.above,)]",
        "answers/test_answer_words.py::test_a_blend_that_knows_no_more_than_shares_is_not_praised",
    ),
    Mutation(
        "report/answers_record.py",
        "key=lambda name: name not in called",
        "key=lambda name: False",
        "answers/test_answer_words.py::test_what_hits_are_called_is_listed_however_rare",
    ),
    Mutation(
        "report/html.py",
        "min(max(probability, 1e-9), 1 - 1e-9)",
        "probability",
        "answers/test_answer_words.py::test_no_prediction_is_shown_as_certain",
    ),
    Mutation(
        "report/stage_record.py",
        "any(member.epochs_run is not None for member in self.members)",
        "True",
        "answers/test_answer_words.py::test_a_learners_members_have_no_epochs",
    ),
    Mutation(
        "answers/confidence.py",
        "(positive & (counted > 0)).any(0) & (~positive & (counted > 0)).any(0)",
        "(positive & (counted > 0)).any(0)",
        "answers/test_confidence.py"
        "::test_what_every_row_has_is_not_called_and_makes_no_room_for_false_calls",
    ),
    Mutation(
        "answers/calibration.py",
        "max(int(cells.sum()), 1)",
        "cells.size",
        "answers/test_calibration.py::test_a_loss_is_the_score_of_the_run",
    ),
    Mutation(
        "report/answers_record.py",
        "self.hits is None or not self.hits.count",
        "self.hits is None",
        "answers/test_answer_page.py::test_nothing_to_predict_and_nothing_called",
    ),
    Mutation(
        "training/progress.py",
        " - self._start - self._compile_seconds()",
        " - self._start",
        "test_progress.py::test_the_time_left_is_without_compilation",
    ),
    Mutation(
        "training/loop.py",
        "stage.name, total, self._compile_seconds",
        "stage.name, total",
        "test_progress.py::test_a_stage_knows_what_it_compiled",
    ),
    Mutation(
        "estimators/mechanism_inputs.py",
        'group[name] == "cells")',
        'group[name] != "cells")',
        "test_mechanism_classifier.py::test_numbers_are_those_of_the_command_line",
    ),
    Mutation(
        "estimators/mechanism_saved.py",
        "if names <= {*entries}:",
        "if True:",
        "test_mechanism_classifier.py::test_save_load_and_copies",
    ),
    Mutation(
        "engine/finished_run.py",
        "if os.getpid() == process:",
        "if os.getpid() != process:",
        "test_mechanism_classifier.py::test_nothing_stays",
    ),
    Mutation(
        "engine/explanation.py",
        "most_rows=explain.most_rows,",
        "most_rows=1,",
        "test_attribution.py::test_new_rows_are_explained_by_the_work_folder_alone",
    ),
    Mutation(
        "engine/prediction.py",
        "answering.add(drugs[~rows.is_control], blended, parts)",
        "answering.add(drugs[~rows.is_control][::-1], blended, parts)",
        "test_mechanism_classifier.py::test_answers_of_compounds_and_scores",
    ),
    Mutation(
        "engine/settings.py",
        'if any(model.get("split") == "original"',
        'if not any(model.get("split") == "original"',
        "test_mechanism_classifier.py::test_groups_of_models_that_cut_rows_otherwise",
    ),
    Mutation(
        "engine/settings.py",
        "    unused.check(found, given)\n",
        "",
        "test_mechanism_classifier.py::test_mistakes_in_parameters",
    ),
    Mutation(
        "training/progress.py",
        "logging.level_info() and _is_terminal()",
        "_is_terminal()",
        "test_mechanism_classifier.py::test_a_terminal_has_a_bar_where_it_has_lines",
    ),
    # Answers: compounds, calibration, calls, and who gets them.
    Mutation(
        "answers/confidence.py",
        "rate, 1.0, 0.0)",
        "rate, 0.0, 0.0)",
        "answers/test_confidence.py::test_null_data_are_not_called_beyond_the_rate",
    ),
    Mutation(
        "answers/rule.py",
        "weights = 1 / np.bincount(units)[units]",
        "weights = np.ones(len(units))",
        "answers/test_confidence.py::test_wells_of_a_compound_count_together_as_one",
    ),
    Mutation(
        "answers/calibration.py",
        "mine, others = parts == part, parts != part",
        "mine, others = parts == part, parts >= 0",
        "answers/test_calibration.py::test_what_only_remembers_compounds_is_not_chosen",
    ),
    Mutation(
        "answers/calibration.py",
        "% PARTS)[units]",
        "% PARTS)[rng.permutation(len(units)) % num_units]",
        "answers/test_calibration.py::test_what_only_remembers_compounds_is_not_chosen",
    ),
    Mutation(
        "engine/answers.py",
        "main = self.rules.get(COMPOUNDS, self.rules[WELLS])",
        "main = self.rules[WELLS]",
        "answers/test_answer_files.py::test_the_parquet_file_has_every_well_and_compound",
    ),
    Mutation(
        "engine/answers.py",
        "if files.content_hash(record) != expected:",
        "if not expected:",
        "answers/test_answer_files.py::test_rules_are_read_back_as_the_weights_name_them",
    ),
    Mutation(
        "engine/answers.py",
        'reference = losses if kind == "blend" else reference',
        "reference = losses",
        "answers/test_answer_files.py::test_scores_stand_beside_what_knows_less",
    ),
    Mutation(
        "answers/table.py",
        '(table["rank"] <= listed) | table["confident"]',
        'table["rank"] <= listed',
        "answers/test_answer_files.py::test_the_csv_lists_the_first_ranks_and_all_that_is_confident",
    ),
    # Populations: draws, lengths and the choice among members.
    Mutation(
        "recipes/draws.py",
        "np.random.default_rng([self.draw_seed, group, block])",
        "np.random.default_rng([group, block])",
        "test_profile_nn.py::test_a_member_draws_the_same_whoever_else_there_is",
    ),
    Mutation(
        "recipes/draws.py",
        "(parts + within) / PARTS",
        "within",
        "test_profile_nn.py::test_eight_members_of_a_group_lie_in_the_eighths_of_every_range",
    ),
    Mutation(
        "recipes/profile_nn.py",
        "update + weight / array.shape[-1] * array",
        "update",
        "test_profile_nn.py::test_a_linear_members_ridge_is_that_of_a_logistic_regression",
    ),
    Mutation(
        "recipes/profile_nn.py",
        "(targets[own].sum(1) == 1).all()",
        "(targets.sum(1) == 1).all()",
        "test_profile_nn.py::test_labels_that_exclude_each_other_are_found_by_a_members_rows",
    ),
    Mutation(
        "models/drawn_mlp.py",
        "jnp.where(exclusive > 0, against_others(logits), logits)",
        "logits",
        "test_profile_nn.py::test_the_network_computes_what_numpy_does",
    ),
    Mutation(
        "recipes/profile_nn.py",
        'weight_decay=draws["weight_decay"], mask=_kernels',
        'weight_decay=draws["weight_decay"]',
        "test_profile_nn.py::test_members_have_their_own_rates",
    ),
    Mutation(
        "recipes/profile_nn.py",
        "shares(targets[own], ",
        "shares(targets, ",
        "test_profile_nn.py::test_outputs_start_at_the_share_of_positive_training_rows",
    ),
    Mutation(
        "recipes/ensemble.py",
        "np.flatnonzero(fold_of_row != fold)",
        "None",
        "test_ensemble.py::test_a_folds_choice_is_that_of_the_other_folds",
    ),
    Mutation(
        "recipes/ensemble.py",
        "view[(fold,) if (fold,) in view else ()]",
        "view[()]",
        "test_ensemble.py::test_a_nested_choice_reads_what_has_not_seen_the_fold "
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[profile_nn]",
    ),
    Mutation(
        "recipes/system.py",
        "num_stages, outcome.shares, outcome.mean",
        "num_stages, outcome.shares",
        "test_ensemble.py::test_new_rows_are_predicted_by_the_choice",
    ),
    Mutation(
        "recipes/system.py",
        "values * ~rows.is_control[:, None]",
        "values",
        "test_ensemble.py::test_a_mean_over_stages_weighs_each_by_its_members",
    ),
    Mutation(
        "recipes/system.py",
        "self.recipe.means, targets.known",
        "self.recipe.means[:1], targets.known",
        "test_ensemble.py::test_new_rows_are_predicted_by_the_choice",
    ),
    Mutation(
        "recipes/selection.py",
        "key=lambda choice: choice.loss",
        "key=lambda choice: 0",
        "test_ensemble.py::test_that_mean_is_taken_which_loses_less",
    ),
    Mutation(
        "data/levels.py",
        "like = [level for level in left if _plain(level) in _CONTROLS]",
        "like = [level for level in left if looks_like_control(level)]",
        "test_levels.py::test_the_control_is_the_type_that_is_called_so",
    ),
    Mutation(
        "prepare/roles.py",
        'logging.info("controls: %s of column %s", ", ".join(values), column)',
        'logging.info("controls: %s of column %s", value, column)',
        "prepare/test_roles.py::test_controls_are_told_by_their_names",
    ),
    Mutation(
        "data/formats.py",
        "if position == 2 < len(names) and names[0] != key",
        "if names[position:]",
        "test_formats.py::test_headers_of_other_kinds",
    ),
    Mutation(
        "command/inference_record.py",
        '        "mean": mean,\n',
        "",
        "trust/test_inference.py::test_another_mean_predicts_again",
    ),
    Mutation(
        "blend/search.py",
        "mean, loss = mean.of_several(len(predictions)), 0.0",
        "loss = 0.0",
        "test_search.py::test_a_single_model_is_as_it_predicts_by_either_mean",
    ),
    Mutation(
        "prepare/list_columns.py",
        'pa.types.is_integer(kind) and lengths["min"] == width > 1',
        "pa.types.is_integer(kind)",
        "prepare/test_formats.py::test_lists_of_whole_numbers_may_be_labels",
    ),
    Mutation(
        "prepare/side_tables.py",
        "if all(NUMBER.fullmatch(str(one)) for one in wanted):",
        "if not wanted:",
        "prepare/test_side_tables.py::test_ids_that_are_numbers_are_not_looked_for_among_numbers",
    ),
    Mutation(
        "prepare/side_tables.py",
        "    if row_names.COLUMN in common:",
        "    if len(common) > 1 and row_names.COLUMN in common:",
        "prepare/test_side_tables.py::test_names_of_rows_of_another_kind_do_not_hide_ids",
    ),
    Mutation(
        "recipes/selection.py",
        "np.where(positive[part], -odds, odds)",
        "odds",
        "test_ensemble.py::test_the_loss_is_that_of_the_mean",
    ),
    Mutation(
        "recipes/ensemble.py",
        'MEANS[record["mean"]]',
        'MEANS["probabilities"]',
        "test_ensemble.py::test_a_folds_choice_is_that_of_the_other_folds",
    ),
    Mutation(
        "recipes/profile_nn.py",
        "tuple(MEANS.values()) if self.mean == AUTO else (MEANS[self.mean],)",
        "tuple(MEANS.values())",
        "test_profile_nn.py::test_what_a_mean_is_of_can_be_said",
    ),
    Mutation(
        "training/predict.py",
        "mean.back(totals / of.sum(1)[:, None, None])",
        "totals / of.sum(1)[:, None, None]",
        "test_ensemble.py::test_a_stages_mean_may_be_of_log_odds",
    ),
    Mutation(
        "training/predict.py",
        "values[chosen] * weights[chosen, None, None]",
        "values[chosen]",
        "test_ensemble.py::test_a_stages_mean_has_the_weights_of_its_members",
    ),
    Mutation(
        "training/loop.py",
        "closed.active & (state.step < total_steps)",
        "closed.active",
        "test_profile_nn.py::test_a_member_ends_after_its_own_steps",
    ),
    Mutation(
        "training/stage.py",
        "return self.epochs_of(member) * self.steps_per_epoch(member)",
        "return self.epochs * self.steps_per_epoch(member)",
        "test_profile_nn.py::test_a_member_ends_after_its_own_steps",
    ),
    Mutation(
        "training/members.py",
        "np.concatenate(passes)[first - start * size :][:count]",
        "np.concatenate(passes)[:count]",
        "test_profile_nn.py::test_stretches_are_passes_over_the_rows_one_after_another",
    ),
    Mutation(
        "training/layout.py",
        "min(at_once, -(-len(stage.members) // stage.cohorts))",
        "at_once",
        "test_loop.py::test_cohorts_train_one_after_another",
    ),
    # Baselines: what libraries fit, and which models take part.
    Mutation(
        "learners/learner.py",
        "learner.fits(x[~own], y[~own], learner.strengths)",
        "learner.fits(x, y, learner.strengths)",
        "test_learners.py::test_the_strength_is_that_of_the_lowest_loss_of_inner_folds",
    ),
    Mutation(
        "learners/learner.py",
        "folds.drug_aware(positive, units, num_folds, seed, frequent_above=0)",
        "folds.multilabel_stratified(positive, num_folds, seed, shuffle=True)",
        "test_learners.py::test_inner_folds_part_no_unit",
    ),
    Mutation(
        "learners/learner.py",
        "or (rows > SOME_ROWS and cells > MANY_CELLS)",
        "or cells > MANY_CELLS",
        "test_learners.py::test_of_many_rows_one_inner_fold_decides",
    ),
    Mutation(
        "learners/learner.py",
        "inner, y = inner[:1], y[:, spread_labels(y, MOST_LABELS)]",
        "inner = inner[:1]",
        "test_learners.py::test_of_many_rows_some_labels_decide",
    ),
    Mutation(
        "recipes/selection.py",
        "np.concatenate([size - total[: self.negatives]",
        "np.concatenate([1 - total[: self.negatives]",
        "test_ensemble.py::test_the_loss_is_that_of_the_mean",
    ),
    Mutation(
        "recipes/selection.py",
        "np.log(products).sum() + np.log(values[shared:]).sum()",
        "np.log(products).sum()",
        "test_ensemble.py::test_the_loss_is_that_of_the_mean",
    ),
    Mutation(
        "models/random_bits.py",
        "low = low + words[(number + 2) % 3] + np.uint32(number + 1)",
        "low = low + words[(number + 2) % 3] + np.uint32(number)",
        "test_random_bits.py::test_numbers_are_those_of_the_key",
    ),
    Mutation(
        "models/random_bits.py",
        "cpu=on_cpu, default=lambda w: draw(w, width, shape)",
        "cpu=lambda w: draw(w, width, shape), default=lambda w: draw(w, width, shape)",
        "test_random_bits.py::test_rounds_are_a_loop_nowhere_and_accelerators_keep_jaxs_program",
    ),
    Mutation(
        "models/drawn_mlp.py",
        "if train and self.hidden:",
        "if train:",
        "test_profile_nn.py::test_nothing_disturbs_a_linear_network",
    ),
    Mutation(
        "learners/logistic.py",
        "with_ones[own], y[own][:, labels], c, start[:, labels]",
        "with_ones, y[:, labels], c, start[:, labels]",
        "test_learners.py::test_rows_of_an_unknown_label_are_no_part_of_its_fit",
    ),
    Mutation(
        "learners/logistic.py",
        "if len(last) == 2:",
        "if len(last) == 3:",
        "test_newton.py::test_a_hessian_serves_several_steps",
    ),
    Mutation(
        "learners/trees.py",
        "min(FIRST_GROWN, len(x) // ROWS_OF_A_TREE)",
        "FIRST_GROWN",
        "test_learners.py::test_of_few_rows_few_trees_are_grown_at_first",
    ),
    Mutation(
        "features/factors.py",
        'threadpool_limits(1 if is_small else None, "blas")',
        'threadpool_limits(None, "blas")',
        "test_factors.py::test_a_small_table_is_decomposed_by_one_thread",
    ),
    Mutation(
        "learners/logistic.py",
        "        from moa_jax.learners import newton\n\n        found = ",
        "        threads = ThreadpoolController()\n        from moa_jax.learners import newton\n\n"
        "        found = ",
        "test_newton.py::test_every_blas_is_there_before_its_threads_are_limited",
    ),
    Mutation(
        "learners/newton.py",
        "np.where(far < SAFE, newton, newton * np.log1p(far) / far)",
        "newton",
        "test_newton.py::test_a_minimum_is_found_from_far_away",
    ),
    Mutation(
        "learners/newton.py",
        "if square > max(SHORTER**2 * squares[label], TOLERANCE**2):",
        "if True:",
        "test_newton.py::test_a_hessian_serves_several_steps",
    ),
    Mutation(
        "learners/trees.py",
        "max(rounds, 2 * grown, first)",
        "int(max(strengths))",
        "test_learners.py::test_no_more_trees_are_grown_than_a_search_asks_for",
    ),
    Mutation(
        "learners/trees.py",
        "one.trees[rounds - 1]",
        "min(rounds, one.trees[-1])",
        "test_learners.py::test_rounds_have_the_same_trees_where_some_have_none",
    ),
    Mutation(
        "learners/trees.py",
        '"lambda_l2": self.ridge,',
        '"lambda_l2": 0.0,',
        "test_learners.py::test_trees_draw_rows_and_columns_and_shrink_their_leaves",
    ),
    Mutation(
        "learners/trees.py",
        '"bagging_freq": 1,',
        '"bagging_freq": 0,',
        "test_learners.py::test_trees_draw_rows_and_columns_and_shrink_their_leaves",
    ),
    Mutation(
        "config.py",
        "return for_question(model, config.data.predict)",
        "return model",
        "test_other_folds.py::test_models_of_an_auto_split_follow_what_is_to_be_predicted",
    ),
    Mutation(
        "data/prepared.py",
        "for_question(model, data.predict)",
        "model",
        "prepare/test_layout.py::test_the_rows_to_predict_decide_the_folds",
    ),
    Mutation(
        "prepare/question.py",
        "for one in compound[treated] if",
        "for one in compound if",
        "prepare/test_layout.py::test_the_rows_to_predict_decide_the_folds",
    ),
    Mutation(
        "engine/other_folds.py",
        'fields: dict[str, Any] = {"split": "stratified"}',
        "fields: dict[str, Any] = {}",
        "test_other_folds.py::test_the_other_score_is_that_of_a_run_on_such_folds",
    ),
    Mutation(
        "engine/other_folds.py",
        "asked == ALL or _is_quick(model)",
        "True",
        "test_other_folds.py::test_where_there_is_one_score",
    ),
    Mutation(
        "engine/run.py",
        "train(other.config, other.workdir, other.dataset, other.models)",
        "train(other.config, other.workdir, other.dataset)",
        "test_other_folds.py::test_the_other_score_is_that_of_a_run_on_such_folds",
    ),
    Mutation(
        "command/repair.py",
        "repair(dataclasses.replace(other.config, answers=alone), other.workdir, other.dataset)",
        "pass",
        "test_other_folds.py::test_what_is_finished_is_left_and_what_is_damaged_is_repaired",
    ),
    Mutation(
        "prepare/layout.py",
        "shutil.rmtree(path, ignore_errors=True)",
        "pass",
        "prepare/test_layout.py::test_what_a_killed_preparation_left_is_removed",
    ),
    Mutation(
        "prepare/h5ad.py",
        "if layer in (*layers, *embeddings):",
        "if layer in layers:",
        "prepare/test_formats.py::test_a_matrix_beside_x",
    ),
    Mutation(
        "prepare/new_rows.py",
        'described.get("layer", "")',
        '""',
        "prepare/test_formats.py::test_a_matrix_beside_x",
    ),
    Mutation(
        "training/predict.py",
        "for blocks in () if by_seed else views:",
        "for blocks in views:",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[profile_nn]",
    ),
    Mutation(
        "learners/trees.py",
        "booster.model_to_string(self.trees[label])",
        "booster.model_to_string()",
        "test_learners.py::test_what_is_stored_is_the_model",
    ),
    Mutation(
        "recipes/host_stage.py",
        "labels[rows],",
        "labels[: len(rows)],",
        "test_baseline.py::test_a_row_is_predicted_by_the_model_of_its_fold",
    ),
    Mutation(
        "recipes/host_stage.py",
        "None if units is None else units[rows],",
        "None,",
        "test_baseline.py::test_a_row_is_predicted_by_the_model_of_its_fold",
    ),
    Mutation(
        "recipes/host_stage.py",
        "if manifest.is_whole(path):",
        "if path.exists() and not manifest.is_whole(path):",
        "test_baseline.py::test_a_killed_run_goes_on",
    ),
    Mutation(
        "recipes/system.py",
        "design.stage(context, every, arrays, targets, start, split.units)",
        "design.stage(context, every, arrays, targets, start)",
        "test_baseline.py::test_a_row_is_predicted_by_the_model_of_its_fold",
    ),
    Mutation(
        "recipes/baseline.py",
        "chosen = values[:, num_genes:] if",
        "chosen = values[:, :num_genes] if",
        "test_baseline.py::test_columns_are_components_scaled_columns_or_viability",
    ),
    Mutation(
        "engine/participation.py",
        'reason = "" if name in made_with else reason or WITHOUT',
        'reason = reason if name in made_with else ""',
        "test_baseline.py::test_what_does_not_apply_is_left_out_with_a_note",
    ),
    # Recipes: nested chains, and what folds keep whole.
    Mutation(
        "recipes/stage_predictions.py",
        "return self.nested[blocks] if blocks else self.whole",
        "return self.whole",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    Mutation(
        "recipes/prediction.py",
        "set(view) <= set(m.blocks) for m in every",
        "True for m in every",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    Mutation(
        "training/members.py",
        "(fold % nesting.blocks,)",
        "(0,)",
        "test_members.py::test_members_of_the_last_stage_leave_out_a_fold_and_know_its_block",
    ),
    Mutation(
        "training/predict.py",
        "combinations(member.blocks, len(member.blocks) - 1)",
        "combinations(member.blocks, len(member.blocks))",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    Mutation(
        "recipes/chain.py",
        "same_folds=True,",
        "same_folds=self.same_folds,",
        "test_splitting.py::test_a_chain_that_leaves_too_few_compounds_is_told_before_training",
    ),
    Mutation(
        "recipes/nn_tabnet.py",
        "every_nonscored if self.nested_blocks else nonempty_nonscored",
        "nonempty_nonscored",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    Mutation(
        "recipes/splitting.py",
        "return Kept(GROUPS, rows.groups)",
        "return Kept(GROUPS, rows.groups, self.frequent_above)",
        "test_splitting.py::test_groups_of_any_size_are_kept_whole",
    ),
    Mutation(
        "recipes/design.py",
        "split.folds, base_seed, self.select_on, split.units, self.nesting",
        "split.folds, base_seed, self.select_on, None, self.nesting",
        "test_splitting.py::test_a_chain_that_leaves_too_few_compounds_is_told_before_training",
    ),
    Mutation(
        "training/members.py",
        "own = train if units is None else units[train]",
        "own = train",
        "test_splitting.py::test_a_holdout_keeps_units_whole",
    ),
    Mutation(
        "engine/run.py",
        "len(found.keys() - {UNKNOWN}) > 1 and searched",
        "len(found) > 2 and searched",
        "test_splitting.py::test_searched_weights_need_like_splits",
    ),
    Mutation(
        "blend/weighing.py",
        "min(config.nested_folds, count), seed)[units]",
        "min(config.nested_folds, count), seed)[np.arange(count)]",
        "test_weighing.py::test_parts_of_the_nested_score_keep_units_whole",
    ),
    Mutation(
        "recipes/notes.py",
        "drugs = rows.drug_id[treated]",
        "drugs = rows.drug_id",
        "test_splitting.py::test_controls_are_no_compound_of_the_record",
    ),
    Mutation(
        "recipes/profile_features.py",
        "earlier.without(stored.blocks[number])",
        "earlier.whole",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    Mutation(
        "recipes/profile_features.py",
        "].without(known.blocks[name])",
        "].whole",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    # Recipes: the fields that all dense networks have.
    Mutation(
        "recipes/dense.py",
        "optimisation.optimizer(self, self.max_learning_rate, self.weight_decay)",
        "optimisation.optimizer(self, self.max_learning_rate)",
        "test_handover.py::test_fields_reach_a_dense_stage",
    ),
    Mutation(
        "recipes/dense.py",
        "MLP(self.hidden, num_outputs, self.dropout)",
        "MLP(self.hidden, num_outputs, self.dropout[::-1])",
        "test_three_stage_nn.py::test_parameter_counts",
    ),
    Mutation(
        "recipes/dense.py",
        "valid_loss=smoothed if self.smooth_validation else losses.LOSSES[self.loss]",
        "valid_loss=smoothed",
        "test_handover.py::test_fields_reach_a_dense_stage",
    ),
    Mutation(
        "recipes/dense.py",
        "optimisation.smoothed_loss(self.loss, self.label_smoothing)",
        "optimisation.smoothed_loss(self.loss, 0.0)",
        "test_three_stage_nn.py::test_first_and_third_stage_smooth_both_losses_the_second_neither",
    ),
    Mutation(
        "recipes/dense.py",
        "stop=rules.patience(self.patience)",
        "stop=rules.never()",
        "test_handover.py::test_fields_reach_a_dense_stage",
    ),
    Mutation(
        "recipes/dense.py",
        "share_init_across_folds=self.share_init_across_folds,",
        "share_init_across_folds=False,",
        "test_nn_tabnet.py::test_networks_and_training_of_both_stages",
    ),
    # Recipes: loss, optimiser and schedule by name.
    Mutation(
        "recipes/optimisation.py",
        "for name in options if hasattr(section, name)",
        "for name, needed in options.items() if needed",
        "test_handover.py::test_half_period_decides_the_schedule_of_the_image_networks",
    ),
    Mutation(
        "recipes/optimisation.py",
        "weight_decay=weight_decay,\n        **",
        "**",
        "test_nn_tabnet.py::test_gradients_are_clipped_before_the_decay_is_added",
    ),
    Mutation(
        "recipes/optimisation.py",
        "optimizers.clip_by_global_norm(clip, clip_epsilon)",
        "optimizers.clip_by_global_norm(clip)",
        "test_handover.py::test_image_networks_clip_with_an_epsilon_of_their_own",
    ),
    Mutation(
        "recipes/optimisation.py",
        "optax.chain(clipped, build(total_steps, scale))",
        "optax.chain(build(total_steps, scale), clipped)",
        "test_nn_tabnet.py::test_gradients_are_clipped_before_the_decay_is_added",
    ),
    Mutation(
        "recipes/optimisation.py",
        "losses.smoothed(targets, smoothing)",
        "targets",
        "test_three_stage_nn.py::test_first_and_third_stage_smooth_both_losses_the_second_neither",
    ),
    Mutation(
        "recipes/optimisation.py",
        "losses.LOSSES[name](",
        'losses.LOSSES["binary_cross_entropy"](',
        "test_handover.py::test_fields_reach_a_dense_stage",
    ),
    # Recipes: profiles.
    Mutation(
        "recipes/profile.py",
        "values[: self.num_train] if on_train_alone else values",
        "values",
        "test_handover.py::test_what_is_fitted_on_training_rows_alone_does_not_know_test_rows",
    ),
    Mutation(
        "recipes/profile.py",
        "Steps(num_train, last",
        "Steps(0 if test is None else len(test), last",
        "test_handover.py::test_what_is_fitted_on_training_rows_alone_does_not_know_test_rows",
    ),
    Mutation(
        "recipes/profile.py",
        "    if test is not None:\n        values = np",
        "    if False:\n        values = np",
        "test_handover.py::test_what_is_fitted_on_training_rows_alone_does_not_know_test_rows",
    ),
    Mutation(
        "recipes/profile.py",
        "slice(0, present[-1][1].stop)",
        "slice(0, present[0][1].stop)",
        "test_nn_tabnet.py::test_statistics_of_the_second_stage",
    ),
    Mutation(
        "recipes/profile.py",
        "[one_hot(rows.cp_time, levels.cp_time), one_hot(rows.cp_dose, levels.cp_dose)]",
        "[one_hot(rows.cp_dose, levels.cp_dose), one_hot(rows.cp_time, levels.cp_time)]",
        "test_three_stage_nn.py::test_column_order_of_the_first_stage",
    ),
    # Recipes: what features of a fold know, and who reads them.
    Mutation(
        "recipes/profile_features.py",
        "test, rows = None, self._train_rows(train, own)",
        "test = None",
        "test_fold_transforms.py::test_rows_of_a_fold_do_not_move_its_transforms[simple_nn-scored]",
    ),
    Mutation(
        "recipes/profile_features.py",
        "return (table[rows, member_data],)",
        "return (table[rows, 0],)",
        "test_fold_transforms.py::test_rows_of_a_fold_do_not_move_its_transforms[simple_nn-scored]",
    ),
    Mutation(
        "recipes/profile_features.py",
        "holding().fit(earlier[own])",
        "holding().fit(earlier)",
        "test_fold_transforms.py::test_rows_of_a_fold_do_not_move_its_transforms"
        "[three_stage_nn-stacked]",
    ),
    Mutation(
        "recipes/features.py",
        "[member.valid_rows] = False",
        "[member.valid_rows] = True",
        "test_fold_transforms.py::test_rows_of_a_fold_do_not_move_its_transforms[simple_nn-scored]",
    ),
    # Recipes: chains and splits.
    Mutation(
        "recipes/chain.py",
        "nested_blocks=min(HONEST_BLOCKS, self.folds)",
        "nested_blocks=0",
        "test_handover.py::test_an_honest_chain_is_nested",
    ),
    Mutation(
        "recipes/chain.py",
        "Nesting(self.nested_blocks, 1 + before_last)",
        "Nesting(self.nested_blocks, 1)",
        "test_handover.py::test_an_honest_chain_is_nested",
    ),
    Mutation(
        "recipes/splitting.py",
        "self.folds, seed, kept.frequent_above, rows.is_control",
        "self.folds, seed, 18, rows.is_control",
        "test_splitting.py::test_honest_folds_keep_every_compound_whole",
    ),
    Mutation(
        "recipes/splitting.py",
        "return folds.units_of(self.groups, self.frequent_above, rows.is_control)",
        "return folds.units_of(self.groups, 18, rows.is_control)",
        "test_splitting.py::test_honest_folds_keep_every_compound_whole",
    ),
    # Recipes: the Simple NN.
    Mutation(
        "recipes/simple_nn.py",
        "drop_first_column=self.drop_first_gene",
        "drop_first_column=True",
        "test_simple_nn.py::test_column_order",
    ),
    Mutation(
        "recipes/simple_nn.py",
        'steps("first_rank_gauss", holding, values, on_train_alone=True)',
        'steps("first_rank_gauss", holding, values)',
        "test_simple_nn.py::test_what_transforms_see_and_know",
    ),
    Mutation(
        "recipes/simple_nn.py",
        '        table = steps("second_rank_gauss", holding, table)\n',
        "",
        "test_simple_nn.py::test_column_order",
    ),
    Mutation(
        "recipes/simple_nn.py",
        '{"gene": self.gene_factors, "cell": self.cell_factors}',
        '{"gene": self.cell_factors, "cell": self.gene_factors}',
        "test_simple_nn.py::test_parameters_of_the_transforms",
    ),
    Mutation(
        "recipes/dense.py",
        "pct_start: float = number(0.1,",
        "pct_start: float = number(0.2,",
        "test_hyperparameters.py::test_every_field_has_the_originals_value",
    ),
    # Recipes: the 3-stage NN.
    Mutation(
        "recipes/three_stage_nn.py",
        "[columns, earlier, *profile.treatment(rows, levels)]",
        "[earlier, columns, *profile.treatment(rows, levels)]",
        "test_three_stage_nn.py::test_column_order_of_the_second_stage",
    ),
    Mutation(
        "recipes/three_stage_nn.py",
        "epochs=15, label_smoothing=1e-3",
        "label_smoothing=1e-3",
        "test_three_stage_nn.py::test_steps",
    ),
    Mutation(
        "recipes/three_stage_nn.py",
        "raw = values[:, block]",
        'raw = steps("rank_gauss", RankGauss, values)[:, block]',
        "test_three_stage_nn.py::test_transforms_of_the_profile_are_fitted_on_the_raw_columns",
    ),
    Mutation(
        "recipes/three_stage_nn.py",
        "functools.partial(FactorScores, factors), raw)",
        "functools.partial(FactorScores, dimensions), raw)",
        "test_handover.py::test_profile_of_the_three_stage_nn_has_the_sizes_of_its_fields",
    ),
    # Recipes: NN + TabNet.
    Mutation(
        "recipes/nn_tabnet.py",
        "[*codes, columns, earlier]",
        "[*codes, earlier, columns]",
        "test_nn_tabnet.py::test_column_order_of_the_second_stage",
    ),
    Mutation(
        "recipes/nn_tabnet.py",
        "self, self.learning_rate, self.weight_decay, self.clip\n",
        "self, self.learning_rate, self.weight_decay\n",
        "test_nn_tabnet.py::test_gradients_are_clipped_before_the_decay_is_added",
    ),
    Mutation(
        "recipes/nn_tabnet.py",
        "            valid_weights=by_row,\n",
        "",
        "test_nn_tabnet.py::test_validation_loss_is_the_mean_over_the_fold",
    ),
    Mutation(
        "recipes/nn_tabnet.py",
        "jnp.clip(targets, smoothing / 2, 1 - smoothing / 2)",
        "jnp.clip(targets, smoothing, 1 - smoothing)",
        "test_nn_tabnet.py::test_losses_smooth_like_the_original",
    ),
    Mutation(
        "recipes/nn_tabnet.py",
        "valid_loss=functools.partial(_smoothed_loss, config=self)",
        "valid_loss=functools.partial(_loss, config=self)",
        "test_nn_tabnet.py::test_entropy_of_the_masks_enters_the_training_loss_alone",
    ),
    Mutation(
        "recipes/nn_tabnet_profiles.py",
        'steps("rank_gauss", holding, values, on_train_alone=True)',
        'steps("rank_gauss", holding, values)',
        "test_nn_tabnet.py::test_rows_that_transforms_are_fitted_on",
    ),
    Mutation(
        "recipes/nn_tabnet_profiles.py",
        "UMAP_SEED, FACTOR_SEED = 512, 42",
        "UMAP_SEED, FACTOR_SEED = 42, 512",
        "test_nn_tabnet.py::test_transforms_have_the_original_parameters",
    ),
    Mutation(
        "recipes/nn_tabnet_profiles.py",
        "present, slice(1, None))",
        "present, slice(0, 4))",
        "test_nn_tabnet.py::test_statistics_of_the_second_stage",
    ),
    Mutation(
        "recipes/nn_tabnet_profiles.py",
        "[pairs, place[both:first], pairs, place[first + both :]]",
        "[pairs, pairs, place[both:first], place[first + both :]]",
        "test_nn_tabnet.py::test_column_order_of_the_second_stage",
    ),
    # Recipes: the 2-heads network.
    Mutation(
        "recipes/two_heads_resnet.py",
        'lowest_loss if self.restore_best == "always" else restored',
        "lowest_loss",
        "test_two_heads_resnet.py::test_rules_of_the_first_two_stages",
    ),
    Mutation(
        "recipes/two_heads_resnet.py",
        "            rate=rules.plateau(self.plateau_factor, self.plateau_patience),\n",
        "",
        "test_two_heads_resnet.py::test_rules_of_the_first_two_stages",
    ),
    Mutation(
        "recipes/two_heads_resnet.py",
        "            validates_start=True,\n",
        "",
        "test_two_heads_resnet.py::test_rows_and_phases_of_the_loop",
    ),
    Mutation(
        "recipes/two_heads_resnet.py",
        "rates = (FROZEN_RATE, UNFROZEN_RATE)",
        "rates = (UNFROZEN_RATE, FROZEN_RATE)",
        "test_two_heads_resnet.py::test_rows_and_phases_of_the_loop",
    ),
    Mutation(
        "recipes/two_heads_resnet.py",
        "functools.partial(_start, SCORED, None)",
        "functools.partial(_start, SCORED, trunk)",
        "test_two_heads_resnet.py::test_the_trunk_is_carried_from_stage_to_stage",
    ),
    Mutation(
        "recipes/two_heads_resnet.py",
        "levels=levels if self.one_hot else None",
        "levels=levels",
        "test_two_heads_resnet.py::test_widths_and_parameters_of_the_original",
    ),
    Mutation(
        "recipes/two_heads_resnet.py",
        "            restarts=_phase_ended,\n",
        "",
        "test_handover.py::test_the_loop_restarts_where_a_phase_ends",
    ),
    Mutation(
        "recipes/two_heads_features.py",
        "np.flatnonzero(known.sets[name])",
        "np.arange(len(rows))",
        "test_two_heads_resnet.py::test_predictors_of_a_fold_come_from_its_training_rows",
    ),
    Mutation(
        "recipes/two_heads_features.py",
        "return member.name",
        'return f"fold{member.fold}"',
        "test_handover.py::test_members_of_the_two_heads_network_have_sets_of_their_own",
    ),
    Mutation(
        "recipes/two_heads_features.py",
        "super().folder(context, self.owner)",
        "super().folder(context, stage)",
        "test_two_heads_resnet.py::test_stored_transforms_are_not_fitted_again",
    ),
    Mutation(
        "recipes/two_heads_inputs.py",
        "train = table[train_rows]",
        "train = table",
        "test_two_heads_inputs.py::test_transforms_of_a_fold",
    ),
    Mutation(
        "recipes/two_heads_inputs.py",
        "scaled[:, member[PREDICTORS]]",
        "table[rows][:, member[PREDICTORS]]",
        "test_two_heads_inputs.py::test_inputs_on_the_device",
    ),
    # Recipes and images of the DeepInsight networks.
    Mutation(
        "recipes/deepinsight_cnn.py",
        "stop=rules.patience(self.patience, self.min_delta)",
        "stop=rules.patience(self.patience)",
        "test_deepinsight_cnn.py::test_original_schedule_and_rules",
    ),
    Mutation(
        "recipes/deepinsight_cnn.py",
        "            valid_weights=by_row,\n",
        "",
        "test_handover.py::test_image_networks_are_validated_by_row_and_start_apart",
    ),
    Mutation(
        "recipes/deepinsight_cnn.py",
        "share_init_across_folds=False",
        "share_init_across_folds=True",
        "test_handover.py::test_image_networks_are_validated_by_row_and_start_apart",
    ),
    Mutation(
        "recipes/deepinsight_cnn.py",
        "            valid_loss=losses.LOSSES[self.loss],\n",
        "",
        "test_deepinsight_cnn.py::test_original_schedule_and_rules",
    ),
    Mutation(
        "recipes/deepinsight_cnn.py",
        "self.swap_probability, self.swap_portion",
        "self.swap_portion, self.swap_probability",
        "test_handover.py::test_swap_noise_has_the_fields_of_its_recipe",
    ),
    Mutation(
        "recipes/deepinsight_cnn.py",
        'dataset.take(np.argsort(dataset.ids, kind="stable"))',
        "dataset",
        "test_deepinsight_cnn.py::test_folds_do_not_depend_on_the_order_of_the_file",
    ),
    Mutation(
        "recipes/deepinsight_cnn.py",
        "                start=self._start,\n",
        "",
        "test_deepinsight_cnn.py::test_weights_start_from_a_file",
    ),
    Mutation(
        "recipes/image_features.py",
        "inputs.fit_fold(table[known.sets[name]], self.placement)",
        "inputs.fit_fold(table, self.placement)",
        "test_fold_transforms.py::test_rows_of_a_fold_do_not_move_its_transforms[deepinsight_cnn-scored]",
    ),
    Mutation(
        "recipes/image_features.py",
        "inputs.member_data([stored[n] for n in numbers], self.resolution, train_rows)",
        "inputs.member_data([stored[0] for _ in numbers], self.resolution, train_rows)",
        "test_fold_transforms.py::test_rows_of_a_fold_do_not_move_its_transforms[deepinsight_cnn-scored]",
    ),
    Mutation(
        "deepinsight/inputs.py",
        "if train and swap_probability > 0",
        'if swap_probability > 0 and "train_rows" in member',
        "test_deepinsight_inputs.py::test_noise_comes_from_the_members_own_training_rows",
    ),
    Mutation(
        "deepinsight/inputs.py",
        'table[member["train_rows"][drawn]]',
        "table[drawn]",
        "test_deepinsight_inputs.py::test_noise_comes_from_the_members_own_training_rows",
    ),
    Mutation(
        "deepinsight/inputs.py",
        ").fit(scale.transform(table))",
        ").fit(table)",
        "test_handover.py::test_columns_are_placed_by_their_scaled_values",
    ),
    Mutation(
        "deepinsight/inputs.py",
        "np.column_stack([~rows.is_control, dose, time, rows.features])",
        "np.column_stack([~rows.is_control, time, dose, rows.features])",
        "test_deepinsight_inputs.py::test_columns",
    ),
    Mutation(
        "deepinsight/log_scale.py",
        "np.log(values + np.abs(self.minimum_) + 1)",
        "np.log(values - self.minimum_ + 1)",
        "test_log_scale.py::test_one_maximum_for_all_columns",
    ),
    Mutation(
        "deepinsight/swap_noise.py",
        "< int(columns * portion)",
        "< int(free * portion)",
        "test_swap_noise.py::test_rows_as_in_the_original "
        "test_swap_noise.py::test_rows_and_columns_that_change",
    ),
    Mutation(
        "models/layers.py",
        "shape, dtype = x.shape[-1:], parameter_dtype(x)",
        "shape, dtype = x.shape[-1:], x.dtype",
        "test_deepinsight_cnn.py::test_a_step_in_bfloat16_keeps_state_and_losses_in_float32",
    ),
    # Training: the loop.
    Mutation(
        "training/loop.py",
        "jnp.where(state.active, jnp.sum(batches.counts > 0), 0)",
        "jnp.sum(batches.counts > 0)",
        "test_loop.py::test_steps_without_rows_and_stopped_members_leave_the_state_untouched",
    ),
    Mutation(
        "training/loop.py",
        "train(definition, devices.batch_axis, inner, every_step)",
        'train(definition, devices.batch_axis, "vmap", every_step)',
        "test_loop.py::test_members_in_a_loop_take_their_real_steps_and_none_is_a_branch",
    ),
    Mutation(
        "training/loop.py",
        "jax.random.split(jax.random.fold_in(key, step_number))",
        "jax.random.split(key)",
        "test_loop.py::test_members_agree_with_plain_loops_in_float64",
    ),
    Mutation(
        "training/loop.py",
        "mask = jnp.arange(stage.batch_size) < count",
        "mask = jnp.arange(stage.batch_size) <= count",
        "test_loop.py::test_members_agree_with_plain_loops_in_float64",
    ),
    Mutation(
        "training/loop.py",
        "stage.valid_loss or stage.loss",
        "stage.loss",
        "test_handover.py::test_rules_see_the_validation_loss_of_the_rows_that_decide",
    ),
    Mutation(
        "training/loop.py",
        "stage.valid_weights(counts)",
        "(counts > 0)",
        "test_loop.py::test_validation_loss_by_row_is_the_mean_over_rows",
    ),
    Mutation(
        "training/loop.py",
        "_keep_if(select.better, selected, state.selected)",
        "selected",
        "test_loop.py::test_members_agree_with_plain_loops_in_float64",
    ),
    Mutation(
        "training/loop.py",
        "rate=stage.rate.update(state.rate, loss)",
        "rate=state.rate",
        "test_loop.py::test_rate_rule_scales_the_learning_rate",
    ),
    Mutation(
        "training/loop.py",
        "active=~stop.stop",
        "active=state.active",
        "test_loop.py::test_stopped_members_keep_their_state",
    ),
    Mutation(
        "training/loop.py",
        "return _keep_if(state.active, closed, state), report",
        "return closed, report",
        "test_loop.py::test_stopped_members_keep_their_state",
    ),
    Mutation(
        "training/loop.py",
        "state.epoch_loss / epoch_steps",
        "state.epoch_loss",
        "test_handover.py::test_the_training_loss_is_the_mean_over_an_epochs_batches",
    ),
    Mutation(
        "training/loop.py",
        "stage.optimizer(total_steps, closed.rate.scale, data).init(kept.params)",
        "closed.opt",
        "test_loop.py::test_restart_goes_back_to_the_kept_weights",
    ),
    Mutation(
        "training/loop.py",
        "Position(group.number, epoch, call + 1)",
        "Position(group.number, epoch, call)",
        "test_loop.py::test_resume_is_bit_exact_from_any_call",
    ),
    Mutation(
        "training/initial.py",
        "_replaced(initial, own.start)",
        "initial",
        "test_loop.py::test_start_takes_the_place_of_initial_variables",
    ),
    Mutation(
        "training/group.py",
        "np.asarray(a)[first : first + len(self.members)]",
        "np.asarray(a)[: len(self.members)]",
        "test_loop.py::test_groups_share_the_compilation_and_agree_with_all_at_once",
    ),
    Mutation(
        "training/group.py",
        "[member.select_rows for member in self.members]",
        "[member.valid_rows for member in self.members]",
        "test_handover.py::test_rules_see_the_validation_loss_of_the_rows_that_decide",
    ),
    Mutation(
        "training/group.py",
        "stage.batch_size, steps, member_tables.SMALLEST_BATCH",
        "stage.batch_size, steps",
        "test_loop.py::test_members_agree_with_plain_loops_in_float64",
    ),
    Mutation(
        "training/group.py",
        "stage.epoch_rows(base_seed, member, epoch)",
        "stage.epoch_rows(base_seed, member, 0)",
        "test_loop.py::test_members_agree_with_plain_loops_in_float64",
    ),
    Mutation(
        "training/layout.py",
        "change = COMPILATION if devices > before else 0.0",
        "change = 0.0",
        "test_loop.py::test_waves_end_soonest",
    ),
    Mutation(
        "training/layout.py",
        "devices.sharing_batches(self.waves[number].devices_each) if self.waves else devices",
        "devices",
        "test_loop.py::test_groups_of_waves_use_the_devices_as_their_members_do",
    ),
    Mutation(
        "training/layout.py",
        "Wave(n, devices_each(stage.forward, n, num_devices, parallel))",
        "Wave(n, 1)",
        "test_deepinsight_cnn.py::test_a_last_wave_of_few_members_shares_all_devices",
    ),
    Mutation(
        "training/layout.py",
        "sizes == even and len(each) == 1",
        "sizes == even",
        "test_loop.py::test_waves_are_kept_where_the_last_one_shares_devices",
    ),
    Mutation(
        "plan/step.py",
        ", every_step=True",
        "",
        "test_plan.py::test_a_step_is_the_same_in_calls_of_any_length",
    ),
    Mutation(
        "plan/stage_plan.py",
        "alike.append((wave.devices_each, tuple(same)))",
        "alike.append((1, tuple(same)))",
        "test_plan.py::test_a_last_wave_of_few_members_is_planned_as_it_trains",
    ),
    Mutation(
        "training/layout.py",
        'if stage.forward.inner == "loop"',
        'if stage.forward.inner == "vmap"',
        "test_deepinsight_cnn.py::test_members_train_in_waves_of_one_per_device",
    ),
    # Training: members, prediction, checkpoints.
    Mutation(
        "training/members.py",
        "_held_out(train, units, ",
        "_held_out(train, None, ",
        "test_splitting.py::test_a_holdout_keeps_units_whole",
    ),
    Mutation(
        "training/members.py",
        "HOLDOUT_SHARE = 0.1",
        "HOLDOUT_SHARE = 0.2",
        "test_members.py::test_honest_members_select_on_rows_they_do_not_train_on_nor_report",
    ),
    Mutation(
        "training/members.py",
        "jax.random.fold_in(jax.random.key(base_seed), member.seed)",
        "jax.random.key(base_seed)",
        "test_members.py::test_key_follows_identity",
    ),
    Mutation(
        "training/predict.py",
        "forward.inputs(shared.inputs, data, rows, unused_key, False)",
        "forward.inputs(shared.inputs, data, rows, unused_key, True)",
        "test_handover.py::test_what_is_predicted_has_no_noise",
    ),
    Mutation(
        "training/checkpoints.py",
        "if _crc32(own, self._described(position)) != checksum:",
        "if not checksum:",
        "test_handover.py::test_a_changed_number_in_a_checkpoint_is_noticed",
    ),
    Mutation(
        "training/checkpoints.py",
        "sorted(self._manager.all_steps(), reverse=True)",
        "sorted(self._manager.all_steps())",
        "trust/test_checkpoints.py::test_checkpoints_that_do_not_say_whose_they_are_are_read",
    ),
    Mutation(
        "training/progress.py",
        '(record["group"], record["epoch"]) <= (group, epoch)',
        '(record["group"], record["epoch"]) < (group, epoch)',
        "test_loop.py::test_resume_is_bit_exact_from_any_call",
    ),
    Mutation(
        "training/parallel.py",
        'return "pmap" if num_devices > 1 else "vmap"',
        'return "vmap"',
        "test_parallel.py::test_strategy_for_this_machine",
    ),
    # Training: rules, schedules, optimisers, losses.
    Mutation(
        "training/rules.py",
        "stop = waited >= epochs if epochs else _zero(bool)",
        "stop = waited > epochs if epochs else _zero(bool)",
        "test_rules.py::test_patience_counts_epochs_without_a_better_loss",
    ),
    Mutation(
        "training/rules.py",
        "better = loss < state.loss",
        "better = loss <= state.loss",
        "test_rules.py::test_lowest_loss_keeps_strictly_better_epochs",
    ),
    Mutation(
        "training/rules.py",
        "((epoch == epochs) & ~stopping.stop)",
        "(epoch == epochs)",
        "test_keras_rules.py::test_a_stop_in_the_last_epoch_restores_the_best",
    ),
    Mutation(
        "training/rules.py",
        "waited=jnp.where(reduce, 0, waited),",
        "waited=waited,",
        "test_keras_rules.py::test_callbacks_of_a_training_phase",
    ),
    Mutation(
        "training/schedules.py",
        "between(max_momentum, base_momentum, max_momentum)",
        "between(base_momentum, max_momentum, base_momentum)",
        "test_training_math.py::test_one_cycle",
    ),
    Mutation(
        "training/schedules.py",
        "self._replace(rate=lambda step: scale * rate(step))",
        "self",
        "test_training_math.py::test_optimisers_and_schedules_by_name",
    ),
    Mutation(
        "training/optimizers.py",
        "adam(schedules.rate, schedules.momentum, weight_decay)",
        "adam(schedules.rate, weight_decay=weight_decay)",
        "test_handover.py::test_the_dense_networks_cycle_beta1",
    ),
    Mutation(
        "training/optimizers.py",
        "radam(schedules.rate, weight_decay=weight_decay)",
        "radam(schedules.rate)",
        "test_deepinsight_cnn.py::test_original_schedule_and_rules",
    ),
    Mutation(
        "training/optimizers.py",
        "max_norm / (optax.tree.norm(gradients) + epsilon)",
        "max_norm / optax.tree.norm(gradients)",
        "test_training_math.py::test_clip_with_another_epsilon",
    ),
    Mutation(
        "training/losses.py",
        "weight = mask.astype(rows.dtype)",
        "weight = jnp.ones_like(rows)",
        "test_training_math.py::test_masked_rows_do_not_count",
    ),
    Mutation(
        "training/metrics.py",
        '"printed_treated": printed_log_loss(y, p, 0, known)',
        '"printed_treated": printed_log_loss(y, p, num_controls, known)',
        "test_training_math.py::test_every_convention_with_controls_filled_in",
    ),
    # Models.
    Mutation(
        "models/mlp.py",
        "self.dropout[layer - 1], self.dtype",
        "self.dropout[-layer], self.dtype",
        "test_handover.py::test_every_layer_of_the_mlp_has_its_own_dropout",
    ),
    Mutation(
        "models/mlp.py",
        "first, last = self.dropout",
        "last, first = self.dropout",
        "test_handover.py::test_every_layer_of_the_mlp_has_its_own_dropout",
    ),
    Mutation(
        "models/two_heads.py",
        "[output1, answer2, answer3, answer3b]",
        "[output1, answer2, answer3b, answer3]",
        "test_two_heads.py::test_inference_block_by_block",
    ),
    Mutation(
        "models/two_heads.py",
        "frozen if index < self.frozen_norms else None",
        "frozen",
        "test_two_heads.py::test_a_frozen_trunk_learns_and_records_nothing",
    ),
    Mutation(
        "models/tabnet.py",
        "prior = (self.gamma - chosen) * prior",
        "prior = self.gamma - chosen",
        "test_tabnet.py::test_eval_mode_layer_by_layer",
    ),
    Mutation(
        "models/layers.py",
        "jnp.maximum(count - 1, 1) if self.unbiased else var",
        "jnp.maximum(count - 1, 1)",
        "test_two_heads.py::test_statistics_after_one_pass",
    ),
    # Features.
    Mutation(
        "features/factor_gram.py",
        "if (noise < LEAST_NOISE * variance).any():",
        "if (noise < 0).any():",
        "test_factors.py::test_factors_of_columns_with_little_noise_are_scikit_learns",
    ),
    Mutation(
        "features/factor_gram.py",
        "loadings * np.sign(largest)[:, None]",
        "loadings",
        "test_factors.py::test_factors_of_many_rows_are_scikit_learns_within_rounding",
    ),
    Mutation(
        "features/rank_gauss_search.py",
        "0.5 * (references[at] + references[lowest])",
        "references[at]",
        "test_rank_gauss.py::test_many_values_have_scikit_learns_bits",
    ),
    Mutation(
        "features/rank_gauss_search.py",
        "self.starts[part], self.scales[part], SNAP, is_alike, lowest, highest, own,",
        "self.starts[part], self.scales[part], SNAP, True, lowest, highest, own,",
        "test_rank_gauss.py::test_where_its_bits_are_others_scipys_scores_are_taken",
    ),
    Mutation(
        "learners/tree_tables.py",
        "> thresholds[node]",
        ">= thresholds[node]",
        "test_learners.py::test_trees_of_many_rows_are_walked_with_lightgbms_bits",
    ),
    Mutation(
        "learners/trees.py",
        "tables.predict(tried).tobytes() == expected.tobytes()",
        "expected.any()",
        "test_learners.py::test_trees_of_another_kind_are_left_to_lightgbm",
    ),
    Mutation(
        "features/kmeans.py",
        "((1, labels), (-1, before))",
        "((1, labels),)",
        "test_factors.py::test_clusters_of_many_rows_are_scikit_learns_but_for_rounding",
    ),
    Mutation(
        "features/kmeans.py",
        "np.flatnonzero(~(found.min(1) - first > 2 * bound))",
        "np.flatnonzero(found.min(1) - first < 0)",
        "test_factors.py::test_nearest_centers_in_single_precision_are_measured_again_where_it_"
        "cannot_tell",
    ),
    Mutation(
        "features/rank_gauss_search.py",
        "quantiles.dtype != np.float64 or not is_alike():",
        "quantiles.dtype != np.float64:",
        "test_rank_gauss.py::test_where_numpy_interpolates_to_other_bits_the_loop_is_not_taken",
    ),
    Mutation(
        "data/ahead.py",
        "contextlib.closing(parts), ThreadPoolExecutor(1)",
        "ThreadPoolExecutor(1)",
        "test_tables.py::test_what_is_not_read_to_its_end_is_closed",
    ),
    Mutation(
        "data/ahead.py",
        "            following = pool.submit(next, parts, end)\n            yield found\n",
        "            yield found\n            following = pool.submit(next, parts, end)\n",
        "test_tables.py::test_the_next_part_is_read_meanwhile",
    ),
    Mutation(
        "features/rank_gauss.py",
        'self.__dict__.pop("_search", None)',
        "pass",
        "test_rank_gauss.py::test_many_values_have_scikit_learns_bits",
    ),
    Mutation(
        "learners/trees.py",
        "x[:, columns].ravel()",
        "x[:, columns].T.ravel()",
        "test_learners.py::test_trees_of_few_columns_predict_as_of_all",
    ),
    Mutation(
        "features/rank_gauss.py",
        "subsample=None",
        "subsample=10_000",
        "test_rank_gauss.py::test_every_row_of_large_data_counts",
    ),
    Mutation(
        "features/factors.py",
        "FactorAnalysis(count, random_state=self.seed)",
        "FactorAnalysis(count, random_state=0)",
        "test_factors.py::test_factor_scores_are_scikit_learns test_factors.py::test_seed_decides",
    ),
    Mutation(
        "features/selection.py",
        "np.flatnonzero(variances > self.threshold)",
        "np.flatnonzero(variances >= self.threshold)",
        "test_selection.py::test_population_variance_strictly_above",
    ),
    Mutation(
        "features/row_statistics.py",
        "/ max(n - 1, 1))",
        "/ max(n, 1))",
        "test_row_statistics.py::test_literal",
    ),
    Mutation(
        "features/umap.py",
        "self._learn(table, embedding, np.array(curve))",
        "self._learn(table - table.mean(0), embedding, np.array(curve))",
        "test_umap.py::test_fitted_rows_keep_their_coordinates",
    ),
    Mutation(
        "features/standard_scale.py",
        "unsure |= are_equal(np.min(lowest, axis=0), np.max(highest, axis=0))",
        "pass",
        "test_constant_columns.py::test_the_answer_moves_by_no_more_than_the_column",
    ),
    Mutation(
        "features/rank_gauss.py",
        "self.held_ = is_constant(self.quantiles_) & self.holds_constant",
        "self.held_ = is_constant(self.quantiles_) & False",
        "test_constant_columns.py::test_the_answer_moves_by_no_more_than_the_column",
    ),
    # Data.
    Mutation(
        "data/tables.py",
        'np.where(rows < 0, control, table.texts("drug_id")[rows])',
        'np.where(rows < 0, control, table.texts("drug_id"))',
        "test_tables.py::test_order_of_rows_does_not_matter",
    ),
    Mutation(
        "data/tables.py",
        "(each[rows] for each in cells)",
        "(each for each in cells)",
        "test_tables.py::test_order_of_rows_does_not_matter",
    ),
    Mutation(
        "data/tables.py",
        "values, known)",
        "values)",
        "test_missing_targets.py::test_empty_cells_are_read_as_not_measured",
    ),
    Mutation(
        "recipes/design.py",
        "known=targets.known,",
        "known=None,",
        "test_missing_targets.py::test_a_run_with_unknown_labels",
    ),
    Mutation(
        "training/loop.py",
        "targets, cells = shared.targets[rows], shared.cells(rows, mask)",
        "targets, cells = shared.targets[rows], mask",
        "test_missing_targets.py::test_what_stands_in_an_unknown_cell_moves_nothing",
    ),
    Mutation(
        "training/loop.py",
        "counts = shared.known_cells(batches.rows, real)",
        "counts = counts",
        "test_missing_targets.py::test_what_stands_in_an_unknown_cell_moves_nothing",
    ),
    Mutation(
        "blend/weighing.py",
        "find = search.method(name, config.trials, 0, config.prior, mean)",
        "find = search.method(name, config.trials, 0, mean=mean)",
        "test_weighing.py::test_losses_without_each_model",
    ),
    Mutation(
        "blend/weighing.py",
        "seed, config.prior, MEANS[config.mean])",
        "seed, 0.0, MEANS[config.mean])",
        "test_weighing.py::test_a_prior_is_of_every_search",
    ),
    Mutation(
        "blend/search.py",
        "slsqp(p[..., None], y[:, None], mask, prior, mean)",
        "slsqp(p[..., None], y[:, None], mask, 0.0, mean)",
        "test_search.py::test_a_prior_fades_with_rows_and_holds_each_target",
    ),
    Mutation(
        "blend/search.py",
        "prior * num_models / targets.size, mean",
        "prior * num_models, mean",
        "test_search.py::test_slsqp_with_a_prior_finds_the_most_probable_weights",
    ),
    Mutation(
        "blend/search.py",
        "gradient + 2 * strength * apart",
        "gradient + strength * apart",
        "test_search.py::test_slsqp_with_a_prior_finds_the_most_probable_weights",
    ),
    Mutation(
        "blend/search.py",
        "of_others = () if known is None else (known[~held_out],)",
        "of_others = ()",
        "test_missing_targets.py::test_searched_weights_are_those_without_the_cells",
    ),
    Mutation(
        "engine/blended.py",
        "        labels.known,\n",
        "        None,\n",
        "test_missing_targets.py::test_a_run_with_unknown_labels",
    ),
    Mutation(
        "data/dataset.py",
        'for name in LEVELLED if levels.encoding == "one_hot" else ():',
        "for name in LEVELLED:",
        "test_treatment.py::test_new_levels_of_new_rows",
    ),
    Mutation(
        "recipes/context.py",
        "Levels.of(self.config.data, self.config.treatment.encoding)",
        "Levels.of(self.config.data)",
        "test_treatment.py::test_a_new_dose_is_predicted_as_a_number",
    ),
    Mutation(
        "data/formats.py",
        "ParseOptions(delimiter=mark, ",
        "ParseOptions(",
        "test_formats.py::test_dialects_are_read",
    ),
    Mutation(
        "data/headers.py",
        "return bool(key) and key in names, bare.count(mark)",
        "return False, bare.count(mark)",
        "test_formats.py::test_names_with_other_delimiters_are_whole",
    ),
    Mutation(
        "data/tables.py",
        "        part = part.called([*(genes or ()), *(cells or ())])\n",
        "",
        "test_names.py::test_columns_are_found_however_their_characters_are_coded",
    ),
    Mutation(
        "data/levels.py",
        "if len(found) > 1 and not any(map(_is_name, found)):",
        "if False:",
        "test_levels.py::test_of_numbers_and_truth_none_is_a_control_unless_it_is_said",
    ),
    Mutation(
        "answers/confidence.py",
        "np.where(pooled >= least, counted[:, callable_], 0.0)",
        "counted[:, callable_]",
        "answers/test_confidence.py::test_nothing_is_called_that_is_likelier_false_than_true",
    ),
    Mutation(
        "answers/rule.py",
        "rate, weights, known, least)",
        "rate, weights, known)",
        "answers/test_confidence.py::test_nothing_is_called_that_is_likelier_false_than_true",
    ),
    Mutation(
        "answers/mechanism_scores.py",
        "max(height, len(self.times))",
        "len(self.times)",
        "answers/test_mechanism_scores.py::test_resamples_are_the_same_few_at_a_time",
    ),
    Mutation(
        "answers/mechanism_scores.py",
        "self.times[:, some].astype(np.float64)",
        "self.times.astype(np.float64)",
        "answers/test_mechanism_scores.py::test_resamples_are_the_same_few_at_a_time",
    ),
    Mutation(
        "data/levels.py",
        "if len(like) == 1 and (len(left) > 1 or treated):",
        "if like:",
        "test_levels.py::test_the_control_is_the_type_that_is_called_so",
    ),
    Mutation(
        "command/inference.py",
        'for name in (*unset, "other_types")',
        "for name in unset",
        "test_levels.py::test_a_work_folder_keeps_what_was_found",
    ),
    Mutation(
        "data/tables.py",
        "bounded(file, levels, train.genes, train.cells, prefixes)",
        "bounded(file, levels, prefixes=prefixes)",
        "test_tables.py::test_order_of_columns_does_not_matter",
    ),
    Mutation(
        "data/columns.py",
        'self.check(name, (column == 0) | (column == 1), "0 or 1", mark)',
        'self.check(name, column >= 0, "0 or 1")',
        "test_tables.py::test_bad_input_is_one_clear_line",
    ),
    Mutation(
        "data/tables.py",
        "    values[rows < 0] = 0\n",
        "",
        "test_names.py::test_controls_need_no_row_in_the_targets",
    ),
    Mutation(
        "data/columns.py",
        "        seen.add(sig_id)\n",
        "",
        "test_tables.py::test_repeated_ids_are_found_across_parts",
    ),
    Mutation(
        "data/dataset.py",
        "self.features, self.cp_time, self.is_control, *(t.values for t in targets)",
        "self.features, self.cp_time, *(t.values for t in targets)",
        "test_handover.py::test_every_part_of_the_data_is_in_their_fingerprint",
    ),
    Mutation(
        "data/folds.py",
        "KFold(num_folds, shuffle=True, random_state=seed)",
        "KFold(num_folds, shuffle=True, random_state=0)",
        "test_folds.py::test_k_fold_draws_the_folds_of_the_2_heads_network",
    ),
    Mutation(
        "data/folds.py",
        "IterativeStratification(labels[order], shares, random_state)",
        "IterativeStratification(labels, shares, random_state)",
        "test_folds.py::test_shuffled_split",
    ),
    # Blend and report.
    Mutation(
        "blend/search.py",
        "found.append(search(others, targets[~held_out], *of_others))",
        "found.append(search(predictions, targets))",
        "test_search.py::test_nested_scores_rows_with_the_weights_of_the_others",
    ),
    Mutation(
        "training/predict.py",
        "map(log_odds, summed), weights[0])",
        "map(log_odds, summed), np.ones(len(chosen)))",
        "test_ensemble.py::test_the_spread_over_members_is_that_of_each_one_alone",
    ),
    Mutation(
        "training/predict.py",
        "np.flatnonzero(of[:, list(group)].any(0))",
        "np.arange(len(group))",
        "test_ensemble.py::test_logarithms_are_of_the_members_that_count_one_by_one",
    ),
    Mutation(
        "recipes/prediction.py",
        "predicting or [designs[-1].name]",
        "[designs[-1].name]",
        "test_ensemble.py::test_the_spread_over_members_is_that_of_each_one_alone",
    ),
    Mutation(
        "recipes/prediction.py",
        "own = spread if design.name in counted else None",
        "own = spread",
        "test_honest.py::test_labels_of_a_fold_change_nothing_that_predicts_it[nn_tabnet]",
    ),
    Mutation(
        "blend/sources.py",
        "test is not None and manifest.lists(spread)",
        "False",
        "test_ensemble.py::test_the_spread_over_members_is_that_of_each_one_alone",
    ),
    Mutation(
        "blend/combination.py",
        "variances += weight * np",
        "variances += np",
        "test_combination.py::test_the_spread_of_a_blend_is_that_within_its_models",
    ),
    Mutation(
        "answers/compounds.py",
        "np.square(spread[wells])",
        "spread[wells]",
        "answers/test_compounds.py::test_the_spread_over_members_is_the_root_mean_square_of_the_wells",
    ),
    Mutation(
        "engine/answers.py",
        "self._blend.add(blended.values, units, blended.spread)",
        "self._blend.add(blended.values, units)",
        "answers/test_answer_files.py::test_the_parquet_file_has_every_well_and_compound",
    ),
    Mutation(
        "training/log_odds.py",
        "(weight / self._weight)",
        "weight",
        "test_log_odds.py::test_weights_say_how_much_a_member_counts_but_not_their_scale",
    ),
    Mutation(
        "command/inference.py",
        "stack.enter_context(drugs.unchanged())",
        "drugs.check()",
        "trust/test_inference.py::test_compounds_that_change_meanwhile_leave_nothing",
    ),
    Mutation(
        "command/inference.py",
        'made_by["compounds"] = drugs.record',
        "pass",
        "trust/test_inference.py::test_compounds_of_new_rows_stand_in_a_file_beside_them",
    ),
    Mutation(
        "data/tables.py",
        "dataclasses.replace(found, drug_id=drugs)",
        "found",
        "trust/test_inference.py::test_compounds_of_new_rows_stand_in_a_column",
    ),
    Mutation(
        "training/checkpoints.py",
        "(array.shape[2:], array.dtype) != (one.shape[1:], one.dtype)",
        "array.dtype != one.dtype",
        "trust/test_checkpoints.py::test_arrays_of_another_shape_are_left_out",
    ),
    Mutation(
        "blend/combination.py",
        ".values[:, columns]",
        ".values",
        "test_combination.py::test_combine_joins_rows_and_columns_by_name",
    ),
    Mutation(
        "report/records.py",
        "return self.value != self.original",
        "return self.original is None",
        "test_report.py::test_switches_say_what_was_changed",
    ),
    Mutation(
        "report/original.py",
        'data.get("source") == "folder" and same_sizes and same_labels',
        'data.get("source") == "folder" and same_sizes',
        "test_handover.py::test_data_of_the_same_sizes_are_not_the_originals",
    ),
    Mutation(
        "report/findings.py",
        "medians, lowest, highest = by_epoch.median(), by_epoch.min(), by_epoch.max()",
        "medians, lowest, highest = by_epoch.mean(), by_epoch.min(), by_epoch.max()",
        "test_findings.py::test_curves_are_medians_of_the_members_still_training",
    ),
    # Store.
    Mutation(
        "store/arrays.py",
        "if archive.namelist() != [",
        "if not archive.namelist() and [",
        "test_arrays.py::test_entries_are_those_that_are_described",
    ),
    Mutation(
        "store/transform_files.py",
        'return files.sha256(files.check_regular(archive)) == described.get("arrays")',
        'return bool(described.get("arrays"))',
        "test_store.py::test_arrays_of_another_description_are_refused",
    ),
    Mutation(
        "store/files.py",
        "is_whole = stored[_SEAL] == content_hash(content)",
        "is_whole = bool(stored[_SEAL])",
        "trust/test_sealed.py::test_another_layout_is_the_same_content",
    ),
    Mutation(
        "store/manifest.py",
        'if files.sha256(path) != entry["sha256"]',
        'if not entry["sha256"]',
        "trust/test_manifest.py::test_every_flipped_bit_is_told",
    ),
    Mutation(
        "store/manifest.py",
        '(("version", VERSION), ("run", self._run), ("model", self._model))',
        '(("version", VERSION), ("model", self._model))',
        "trust/test_manifest.py::test_a_model_of_another_run_or_name_is_refused",
    ),
    Mutation(
        "store/manifest.py",
        "            self._whole &= kept.keys()\n",
        "",
        "trust/test_manifest.py::test_what_was_struck_off_is_not_listed",
    ),
    Mutation(
        "store/predictions.py",
        "write_page_checksum=True",
        "write_page_checksum=False",
        "trust/test_predictions.py::test_a_flipped_bit_changes_no_number",
    ),
    Mutation(
        "store/predictions.py",
        "(values >= 0) & (values <= 1)",
        "(values > -1) & (values <= 1)",
        "trust/test_predictions.py::test_what_is_no_probability_is_refused",
    ),
    Mutation(
        "training/checkpoints.py",
        'return f"{tuple(position)} of {self._origin(position)}"',
        'return f"{tuple(position)}"',
        "trust/test_checkpoints.py::test_checkpoints_of_another_run_are_left_out",
    ),
    Mutation(
        "training/checkpoints.py",
        "checksum = zlib.crc32(described.encode())",
        "checksum = 0",
        "trust/test_checkpoints.py::test_a_changed_position_is_noticed",
    ),
    Mutation(
        "training/progress.py",
        "elif number < len(lines):",
        "elif number < 0:",
        "trust/test_logs.py::test_another_broken_line_is_named",
    ),
    Mutation(
        "training/loop.py",
        "if manifest and not manifest.is_whole(path)",
        "if not path",
        "trust/test_interrupted.py::test_networks_of_earlier_groups_are_made_again",
    ),
    Mutation(
        "recipes/system.py",
        "if not all(map(context.is_whole, two))",
        "if not two[0].exists()",
        "trust/test_interrupted.py::test_damaged_transforms_are_fitted_again",
    ),
    Mutation(
        "recipes/finished.py",
        "context.manifest.verify(*_read_to_predict(context, design, every))",
        "_read_to_predict(context, design, every)",
        "trust/test_interrupted.py::test_new_rows_are_predicted_by_what_was_written_alone",
    ),
    Mutation(
        "store/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "test_workdir.py::test_a_folder_in_use_is_refused",
    ),
    Mutation(
        "store/workdir.py",
        'if stored["fields"] != fields',
        'if not stored["fields"]',
        "test_workdir.py::test_another_run_is_refused",
    ),
    Mutation(
        "store/workdir.py",
        "if name not in known or (asked and known[name] != value)",
        "if known.get(name) != value",
        "test_workdir.py::test_what_was_resolved_stays",
    ),
    Mutation(
        "store/predictions.py",
        "self.values[position]",
        "self.values[np.sort(position)]",
        "test_combination.py::test_combine_joins_rows_and_columns_by_name",
    ),
    Mutation(
        "store/files.py",
        "            os.replace(temporary, path)\n",
        "            path.write_bytes(temporary.read_bytes())\n",
        "test_handover.py::test_a_file_is_replaced_in_one_step",
    ),
    # Configuration and command.
    Mutation(
        "config.py",
        "model = model.honest()",
        "model = dataclasses.replace(model)",
        "test_handover.py::test_an_honest_run_sets_the_switches_of_every_model",
    ),
    Mutation(
        "config.py",
        '    "checkpoint",\n',
        "",
        "test_workdir.py::test_another_run_is_refused",
    ),
    Mutation(
        "engine/blended.py",
        "order = dataset.test.ids if dataset.submission_ids is None else dataset.submission_ids",
        "order = dataset.test.ids",
        "test_handover.py::test_the_submission_follows_the_sample",
    ),
    Mutation(
        "command/inference.py",
        'tuple(columns["genes"]),\n            tuple(columns["cells"]),',
        "None,\n            None,",
        "test_handover.py::test_new_rows_may_have_their_columns_in_any_order",
    ),
    Mutation(
        "engine/prediction.py",
        "system.load(config.models[name], context, targets, num_stages)",
        "system.load(config.models[name], context, targets)",
        "trust/test_inference.py::test_every_part_goes_through_all_models_in_one_reading",
    ),
    Mutation(
        "command/inference.py",
        "stack.enter_context(source.unchanged())",
        "source.check()",
        "trust/test_inference.py::test_a_file_that_changes_meanwhile_leaves_nothing",
    ),
    Mutation(
        "engine/prediction.py",
        "    stored_weights.check_origin(workdir.path, record, workdir.run, config.blend)\n",
        "",
        "trust/test_inference.py::test_weights_are_checked_when_inference_reads_them",
    ),
    Mutation(
        "blend/stored_weights.py",
        'if (prior := record.get("prior", 0.0)) != expected:',
        'if (prior := record.get("prior", expected)) < 0:',
        "trust/test_inference.py::test_weights_are_checked_when_inference_reads_them",
    ),
    Mutation(
        "blend/stored_weights.py",
        'if (mean := record.get("mean", PROBABILITIES.name)) != blend.mean:',
        'if not (mean := record.get("mean", PROBABILITIES.name)):',
        "trust/test_inference.py::test_weights_are_checked_when_inference_reads_them",
    ),
    Mutation(
        "blend/weighing.py",
        "blended = bounded(combine(scored, chosen, mean))",
        "blended = bounded(combine(scored, chosen))",
        "test_weighing.py::test_the_mean_is_of_search_blend_and_scores",
    ),
    Mutation(
        "blend/search.py",
        "blend[held_out] = blended(found[-1], predictions[:, held_out], mean)",
        "blend[held_out] = blended(found[-1], predictions[:, held_out])",
        "test_search.py::test_nested_blends_by_the_mean",
    ),
    Mutation(
        "blend/search.py",
        "clipped - labels if mean is LOG_ODDS else 1 / margin",
        "1 / margin",
        "test_search.py::test_gradient_against_finite_differences",
    ),
    Mutation(
        "blend/combination.py",
        "np.where(silent[:, None], 0.0, mean.back(blended))",
        "mean.back(blended)",
        "test_combination.py::test_a_mean_of_log_odds_joins_as_a_sum_does",
    ),
    Mutation(
        "training/means.py",
        "return self if number > 1 else PROBABILITIES",
        "return self",
        "test_combination.py::test_a_single_models_blend_has_its_bits",
    ),
    Mutation(
        "engine/prediction.py",
        "combination.combine(found, self.chosen.weights, self.chosen.mean)",
        "combination.combine(found, self.chosen.weights)",
        "trust/test_inference.py::test_new_rows_are_blended_by_the_configured_mean",
    ),
    Mutation(
        "engine/blended.py",
        "combination.combine(tests, weighed.weights, mean)",
        "combination.combine(tests, weighed.weights)",
        "test_handover.py::test_a_submission_is_of_the_blends_mean",
    ),
    Mutation(
        "blend/diversity.py",
        "others, targets, known, mean))",
        "others, targets, known))",
        "test_weighing.py::test_losses_without_each_model",
    ),
    Mutation(
        "blend/weighing.py",
        '{"prior": config.prior} if config.prior else {}',
        "{}",
        "test_weighing.py::test_a_prior_is_of_every_search",
    ),
    Mutation(
        "report/answers_record.py",
        "found.calibrated(called).min(initial=1)",
        "found.calibrated(called).max(initial=1)",
        "answers/test_answer_page.py::test_rules_of_an_earlier_version_may_call_what_is_likelier_false",
    ),
    Mutation(
        "command/inference_record.py",
        '"weights": files.content_hash(weights),',
        '"weights": files.content_hash(sorted(weights)),',
        "trust/test_inference.py::test_what_differs_is_made_again",
    ),
    Mutation(
        "command/inference_record.py",
        'if record is None or record.get("input", {}).get("sha256") == source.sha256:',
        "if folder:",
        "trust/test_inference.py::test_a_digest_that_begins_alike_gets_more_digits",
    ),
    Mutation(
        "recipes/prediction.py",
        "share = 1 / (num_stages or len(designs))",
        "share = 1 / len(designs)",
        "test_new_rows.py::test_stages_of_all_models_share_the_memory",
    ),
    Mutation(
        "store/workdir.py",
        "        here |= configuration.blend_fields(configuration.plain(config.blend))\n",
        '        here |= configuration.blend_fields(stored["config"]["blend"])\n',
        "trust/test_configuration.py::test_a_blend_of_others_is_bound_to_its_work_folder",
    ),
    Mutation(
        "blend_config.py",
        "        _check_names(models, self.files)\n",
        "        _check_names(models, ())\n",
        "trust/test_configuration.py::test_a_model_is_one_component_of_a_path",
    ),
    Mutation(
        "plan/stage_plan.py",
        "sum(len(members) * one.flops for one in groups for members in one.layout.groups)",
        "sum(one.flops for one in groups)",
        "test_plan.py::test_figures_are_those_of_the_compiled_step",
    ),
    Mutation(
        "plan/stage_plan.py",
        "sum(self.step.work.flops.values()) / self.layout.slots_per_shard",
        "sum(self.step.work.flops.values())",
        "test_plan.py::test_figures_are_those_of_the_compiled_step",
    ),
    Mutation(
        "plan/stage_plan.py",
        "wanted or built.expected_epochs or longest",
        "wanted or longest",
        "test_plan.py::test_members_are_expected_to_stop_where_the_originals_did",
    ),
    Mutation(
        "plan/stage_plan.py",
        "step_seconds=sum(max(one) for one in times)",
        "step_seconds=sum(one.flops for one in times)",
        "test_plan.py::test_members_are_expected_to_stop_where_the_originals_did",
    ),
    Mutation(
        "plan/step.py",
        "return step_of(stage, target.on_cpu(), layout, per_member, shares_rows)",
        "raise",
        "test_plan.py::test_what_a_gpu_compiler_refuses_is_estimated",
    ),
    Mutation(
        "plan/step.py",
        "        stage, share = _in_float32(stage)\n",
        "        stage, share = stage, 1.0\n",
        "test_plan.py::test_an_estimate_of_bfloat16_is_faster_than_float32",
    ),
    Mutation(
        "plan/traffic.py",
        'return self.of(one.named("body")).times(self._trips(one))',
        'return self.of(one.named("body"))',
        "test_hlo.py::test_bytes_and_kernels_are_counted_by_hand",
    ),
    Mutation(
        "plan/traffic.py",
        "return operands[0].outputs[0].bytes_of(cut.size) + cut.num_bytes",
        "return 2 * cut.num_bytes",
        "test_hlo.py::test_what_a_tpu_moves_between_its_memories_is_counted_once",
    ),
    Mutation(
        "plan/traffic.py",
        "return _updated(one, body.operands(one)[1])",
        "return body.operands(one)[1].num_bytes",
        "test_hlo.py::test_what_stays_on_the_chip_through_a_loop_is_read_and_written_once",
    ),
    Mutation(
        "plan/hlo.py",
        "sizes = [dims[axis] for axis in reversed(order)]",
        "sizes = list(dims)",
        "test_hlo.py::test_a_tile_is_moved_whole",
    ),
    Mutation(
        "training/loop.py",
        "group.slots.to_save(state)",
        "group.slots.unpad(state)",
        "test_loop.py::test_of_several_processes_each_saves_its_shards_and_one_goes_on",
    ),
    Mutation(
        "training/group.py",
        "selected, loss, epoch = self.slots.unpad_for_first(",
        "selected, loss, epoch = self.slots.unpad(",
        "test_loop.py::test_every_process_makes_the_weights_and_the_first_alone_holds_them",
    ),
    Mutation(
        "plan/reads.py",
        "return _before_slice(one, part)",
        "return _whole(operand)",
        "test_hlo.py::test_of_what_is_cut_only_the_slices_are_read",
    ),
    Mutation(
        "models/layers.py",
        "start = jnp.mean(x[0], axes[:-1])",
        "start = jnp.zeros(x.shape[-1:], x.dtype)",
        "test_forms.py::test_one_pass_has_the_digits_of_two",
    ),
    Mutation(
        "models/layers.py",
        "cpu=in_two_passes, default=in_one_pass",
        "default=in_two_passes",
        "test_forms.py::test_who_is_given_which_form",
    ),
    Mutation(
        "models/layers.py",
        "platform_dependent(cotangent, cuda=barrier, rocm=barrier, default=lambda c: c)",
        "platform_dependent(cotangent, default=lambda c: c)",
        "test_forms.py::test_who_is_given_which_form",
    ),
    Mutation(
        "models/rectified.py",
        "return _kept(nn.relu(x))",
        "return nn.relu(x)",
        "test_forms.py::test_who_is_given_which_form",
    ),
    Mutation(
        "models/rectified.py",
        "stays = first >= values",
        "stays = first > values",
        "test_forms.py::test_places_of_maxima_are_those_of_the_library",
    ),
    Mutation(
        "plan/traffic.py",
        "products.kind(one, read): count",
        '"tf32": count',
        "test_hlo.py::test_a_product_of_a_library",
    ),
    Mutation(
        "recipes/system.py",
        "expected, by_seed = design.expected_epochs, design.by_seed",
        "expected, by_seed = None, design.by_seed",
        "test_plan.py::test_outlines_know_what_is_expected",
    ),
    Mutation(
        "engine/limits.py",
        "steps, built.by_seed, parts)",
        "steps, False, parts)",
        "test_plan.py::test_predictions_of_seeds_take_memory",
    ),
    # Estimators and pretrained weights.
    Mutation(
        "pretrained/claims.py",
        "if found is not None and found != architecture",
        "if found is not None and not architecture",
        "test_pretrained_sources.py::test_a_source_that_says_another_network_is_refused",
    ),
    Mutation(
        "report/ranking.py",
        "max(spread(own) or 0, spread(other) or 0)",
        "0",
        "test_report.py::test_spread_over_seeds_and_no_ranking_within_it",
    ),
    Mutation(
        "estimators/tabnet_supervised.py",
        "functools.partial(loss, lambda_sparse=0.0)",
        "functools.partial(loss, lambda_sparse=self.lambda_sparse)",
        "test_estimator.py::test_loss_is_that_of_the_kept_network",
    ),
    Mutation(
        "estimators/tabnet_supervised.py",
        "self._learn_columns(X[train], units)",
        "self._learn_columns(X, units)",
        "test_handover.py::test_the_classifier_scales_by_its_training_rows_alone",
    ),
    Mutation(
        "estimators/tabnet_supervised.py",
        "            self._learn_columns(X, units)  # as",
        "            X = X.astype(np.float64)\n            self._learn_columns(X, units)  # as",
        "test_tabnet_columns.py::test_rows_that_decide_do_not_make_others_more_precise",
    ),
    Mutation(
        "estimators/tabnet_pretrainer.py",
        "            self._learn_columns(X, units)  # as",
        "            X = X.astype(np.float64)\n            self._learn_columns(X, units)  # as",
        "test_tabnet_columns.py::test_rows_that_decide_do_not_make_others_more_precise",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "            stop=rules.patience(self.patience),\n",
        "",
        "test_estimator.py::test_the_lowest_loss_decides_and_patience_ends",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "network = network or self._encoder",
        "network = network or tabnet.from_attributes(self, self._encoder.output_dim)",
        "test_tabnet_inputs.py::test_parameters_set_after_fit_wait_for_the_next",
    ),
    Mutation(
        "training/loop.py",
        "validate(definition, devices.batch_axis)",
        "validate(stage, devices.batch_axis)",
        "test_reuse.py::test_a_second_run_of_a_stage_compiles_nothing",
    ),
    Mutation(
        "learners/trees.py",
        "[labels[first::workers] for first in range(workers)]",
        "[labels]",
        "test_learners.py::test_labels_side_by_side_are_those_one_after_another",
    ),
    Mutation(
        "recipes/profile_nn.py",
        "rows = known.sum() / known.shape[1]",
        "rows = known.shape[0]",
        "test_profile_nn.py::test_a_ridge_is_weighed_against_known_labels_alone",
    ),
    Mutation(
        "recipes/stage_predictions.py",
        "arrays.read_array(self._path, SEEDS_KIND, self._names[blocks])",
        "read_nested(self._path.parent)[blocks]",
        "test_ensemble.py::test_predictions_of_seeds_are_read_when_they_are_looked_up",
    ),
    Mutation(
        "training/predict.py",
        "stored(alone.pop(member.seed))",
        "stored(alone[member.seed])",
        "test_ensemble.py::test_sums_of_one_seed_at_a_time_are_in_memory",
    ),
    Mutation(
        "training/program.py",
        "self._made_of = fn, options",
        "self._made_of = fn, {}",
        "test_reuse.py::test_a_program_is_compiled_once_in_a_process",
    ),
    Mutation(
        "training/lanes.py",
        "ThreadPoolExecutor(len(arguments))",
        "ThreadPoolExecutor(1)",
        "test_lanes.py::test_lanes_are_called_side_by_side",
    ),
    Mutation(
        "training/lanes.py",
        "max(FEWEST_MEMBERS, -(-num_members // cores.available()))",
        "-(-num_members // cores.available())",
        "test_lanes.py::test_lanes_fill_the_cores_and_have_two_members_each",
    ),
    Mutation(
        "training/parallel.py",
        'if inner != "auto" or self.inner(inner)',
        "if self.inner(inner)",
        "test_lanes.py::test_lanes_are_of_dense_networks_on_one_cpu",
    ),
    Mutation(
        "training/parallel.py",
        ' or self.strategy != "vmap":',
        ":",
        "test_lanes.py::test_lanes_are_of_dense_networks_on_one_cpu",
    ),
    Mutation(
        "training/loop.py",
        "devices = devices.in_lanes(inner, self.layout.slots_per_shard)\n",
        "pass\n",
        "test_lanes.py::test_a_stage_in_lanes_has_the_same_bits",
    ),
    Mutation(
        "training/program.py",
        "threading.Thread(target=_compile, args=(found, lowered, options, traced)).start()",
        "__import__('concurrent.futures').futures.ThreadPoolExecutor(1).submit("
        "_compile, found, lowered, options, traced)",
        "trust/test_quiet_signals.py::test_time_is_up_while_a_thread_compiles",
    ),
    Mutation(
        "training/program.py",
        "            reuse.PROGRAMS.drop(self._compiling.pop(signature))\n",
        "            self._compiling.pop(signature)\n",
        "test_reuse.py::test_what_could_not_be_compiled_holds_nothing",
    ),
    Mutation(
        "training/program.py",
        "            reuse.PROGRAMS.drop(self._compiling.pop(signature))\n",
        "            reuse.PROGRAMS.drop(self._compiling[signature])\n",
        "test_reuse.py::test_what_could_not_be_compiled_is_tried_again",
    ),
    Mutation(
        "training/group.py",
        "self.slots.pad(state.active) & self.slots.taken",
        "self.slots.pad(state.active)",
        "test_lanes.py::test_neighbours_train_side_by_side_and_padding_not_at_all",
    ),
    Mutation(
        "training/predict.py",
        "devices.in_lanes(forward.inner, self._slots_per_shard)",
        "devices",
        "test_lanes.py::test_a_stage_in_lanes_has_the_same_bits",
    ),
    Mutation(
        "training/group.py",
        "        state = state._replace(active=self.devices.put_members(self.slots.taken))\n",
        "",
        "test_lanes.py::test_neighbours_train_side_by_side_and_padding_not_at_all",
    ),
    Mutation(
        "training/footprint.py",
        "devices.num_shards * devices.in_lanes(inner, at_once).lanes",
        "devices.num_shards",
        "test_lanes.py::test_every_lane_has_a_batch_in_memory",
    ),
    Mutation(
        "training/slots.py",
        "array.swapaxes(0, 1).reshape(-1, *array.shape[2:])[:num_members]",
        "array.reshape(-1, *array.shape[2:])[:num_members]",
        "test_lanes.py::test_a_whole_array_is_that_of_its_lanes",
    ),
    Mutation(
        "training/loop.py",
        "                group.begin()\n",
        "",
        "test_reuse.py::test_programs_that_train_are_compiled_side_by_side",
    ),
    Mutation(
        "training/program.py",
        "reuse.PROGRAMS.put(key, compiling)",
        "compiling.add_done_callback(lambda _: reuse.PROGRAMS.put(key, compiling))",
        "test_reuse.py::test_two_that_ask_for_a_program_wait_for_one_compilation",
    ),
    Mutation(
        "training/program.py",
        " or (compiling.done() and compiling.exception())",
        "",
        "test_reuse.py::test_what_could_not_be_compiled_is_tried_again",
    ),
    Mutation(
        "training/predict.py",
        "self._program.begin_call((), self._own(group, rows), shared)",
        "pass",
        "test_attribution.py::test_the_networks_of_all_stages_are_compiled_side_by_side",
    ),
    Mutation(
        "recipes/design.py",
        "functools.partial(_with_draws, self.features.inputs)",
        "lambda *given: _with_draws(self.features.inputs, *given)",
        "test_profile_nn.py::test_groups_of_one_shape_are_one_program",
    ),
    Mutation(
        "recipes/design.py",
        "functools.partial(_columns_beside_draws, columns)",
        "lambda *given: _columns_beside_draws(self.features.columns, *given)",
        "test_profile_nn.py::test_groups_of_one_shape_are_one_program",
    ),
    Mutation(
        "training/parallel.py",
        "in_turn.loop(fn, skip, donate)",
        "in_turn.loop(fn, skip, False)",
        "test_in_turn.py::test_neither_states_nor_what_is_handed_on_are_copied_as_a_whole",
    ),
    Mutation(
        "training/in_turn.py",
        "if new is not old}, output",
        "}, output",
        "test_in_turn.py::test_neither_states_nor_what_is_handed_on_are_copied_as_a_whole",
    ),
    Mutation(
        "training/in_turn.py",
        "if not options or ASKS_FOR_READERS not in str(error):",
        "if True:",
        "test_in_turn.py::test_options_of_a_compiler_that_does_not_know_them",
    ),
    Mutation(
        "training/loop.py",
        'devices.updating_in_place() if stage.forward.inner == "auto" else devices',
        "devices",
        "test_in_turn.py::test_the_steps_of_wide_dense_networks_alone_are_told_to_save_copies",
    ),
    Mutation(
        "training/program.py",
        "if key and key == self._key(called, kinds):",
        "if key:",
        "test_reuse.py::test_what_changes_before_or_while_it_is_traced",
    ),
    Mutation(
        "training/identity.py",
        "return kind, repr(value)",
        "return kind, value",
        "test_reuse.py::test_equal_functions_are_one",
    ),
    Mutation(
        "training/identity.py",
        "return _compact((walk.of(value), *walk.named()))",
        "return _compact(walk.of(value))",
        "test_reuse.py::test_what_was_defined_anew_is_another_function",
    ),
    Mutation(
        "training/program.py",
        "identity((*self._made_of, kinds))",
        "identity(self._made_of)",
        "test_reuse.py::test_a_method_of_what_is_given_that_was_defined_anew",
    ),
    Mutation(
        "training/identity.py",
        "placed = array.aval.weak_type, array.sharding",
        "placed = (array.sharding,)",
        "test_reuse.py::test_arrays_that_promote_otherwise_are_others",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "_padded(self.columns_(X), size)",
        "self.columns_(X)",
        "test_tabnet_estimators.py::test_tables_of_about_one_size_share_their_programs",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "start=None if start is None else lambda _: start,",
        "start=None,",
        "test_tabnet_estimators.py::test_a_warm_start_goes_on_with_the_weights",
    ),
    Mutation(
        "estimators/tabnet_supervised.py",
        "self._learn_scale(targets[train])",
        "self._learn_scale(targets[:1])",
        "test_tabnet_estimators.py::test_one_target_is_a_vector_and_a_column_a_column_and_rows_weigh",
    ),
    Mutation(
        "models/tabnet_autoencoder.py",
        "seen = 1 - unseen",
        "seen = 1 - 0 * unseen",
        "test_tabnet_estimators.py::test_hidden_columns_are_not_seen",
    ),
    Mutation(
        "pretrained/tensors.py",
        "if not np.isfinite(found).all()",
        "if np.isinf(found).all()",
        "test_pretrained_trainers.py::test_numbers_that_are_no_weights",
    ),
    Mutation(
        "estimators/saved.py",
        "if path.exists() and files.sha256(path) != checksum",
        "if path.exists() and not checksum",
        "test_estimator.py::test_damaged_folders_are_one_line",
    ),
    Mutation(
        "estimators/deep_insight.py",
        "validate_data(self, X, dtype=np.float64, reset=False)\n        scaled",
        "validate_data(self, X, dtype=np.float64)\n        scaled",
        "test_deepinsight.py::test_scikit_learn",
    ),
    Mutation(
        "pretrained/architectures.py",
        "if found.architecture != architecture",
        "if not found.architecture",
        "test_deepinsight_cnn.py::test_mistakes_are_told_before_training",
    ),
    Mutation(
        "pretrained/state_dict.py",
        "arrays.keys() - names.keys() - counters",
        "set()",
        "test_pretrained_cnn.py::test_names_and_shapes_are_strict",
    ),
    Mutation(
        "pretrained/state_dict.py",
        "4: (3, 2, 0, 1)",
        "4: (2, 3, 0, 1)",
        "test_pretrained_cnn.py::test_the_solutions_network_gives_everything",
    ),
    # Full disks, signals, locks and leftovers.
    Mutation(
        "training/loop.py",
        "processes.agree(due, signals.received())",
        "processes.agree(due, 0)",
        "trust/test_quiet_signals.py::test_an_interrupted_stage_goes_on_to_the_same_bits",
    ),
    Mutation(
        "store/processes.py",
        "int(found[:, 1].max())",
        "int(found[0, 1])",
        "trust/test_quiet_signals.py::test_processes_agree_on_any_signal_and_the_first_ones_clock",
    ),
    Mutation(
        "store/signals.py",
        " and not self.saving",
        "",
        "trust/test_quiet_signals.py::test_a_checkpoint_is_waited_for_and_a_step_is_not",
    ),
    Mutation(
        "store/signals.py",
        "signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)",
        "-1",
        "trust/test_quiet_signals.py::test_time_is_up_while_the_main_thread_hears_nothing",
    ),
    Mutation(
        "store/signals.py",
        "if self.received or self._line.locked():",
        "if self.received:",
        "trust/test_quiet_signals.py::test_nothing_follows_the_line",
    ),
    Mutation(
        "store/signals.py",
        "if not _STATE.received:",
        "if False:",
        "trust/test_quiet_signals.py::test_who_goes_on_after_the_command_has_the_signals_as_before",
    ),
    Mutation(
        "training/checkpoints.py",
        'folder.glob(f"*{TEMPORARY}*")',
        'folder.glob(f"*{TEMPORARY}")',
        "trust/test_quiet.py::test_an_unfinished_checkpoint_is_removed_at_the_next_start",
    ),
    Mutation(
        "training/checkpoints.py",
        "self._guard(self._manager.close)",
        "self._manager.close()",
        "trust/test_quiet.py::test_checkpoints_that_cannot_be_closed",
    ),
    Mutation(
        "store/workdir.py",
        "            leftovers.clean(self.path)\n",
        "",
        "trust/test_lock.py::test_leftovers_are_removed_under_the_lock_alone",
    ),
    Mutation(
        "store/files.py",
        "            temporary.unlink(missing_ok=True)\n",
        "",
        "trust/test_lock.py::test_nothing_is_written_through_a_link",
    ),
    Mutation(
        "store/leftovers.py",
        "os.path.realpath(path)",
        "os.path.abspath(path)",
        "trust/test_lock.py::test_links_out_of_the_work_folder_are_refused",
    ),
    Mutation(
        "store/lock.py",
        "lock.truncate(0)",
        "lock.seek(0, 2)",
        "trust/test_lock.py::test_a_holder_that_says_nothing_readable",
    ),
    # Limits: what is checked before work begins.
    Mutation(
        "engine/run.py",
        "limits.check_memory(config, dataset, context)",
        "pass",
        "trust/test_limits.py::test_a_network_fits_in_memory",
    ),
    Mutation(
        "engine/run.py",
        "limits.check_counts(config, dataset)",
        "pass",
        "trust/test_limits.py::test_members_rows_fit_in_memory",
    ),
    Mutation(
        "engine/limits.py",
        "there[0] if in_parts else 1",
        "1",
        "trust/test_limits.py::test_of_shared_rows_the_host_of_accelerators_makes_a_part_at_a_time",
    ),
    Mutation(
        "engine/limits.py",
        "has_accelerators and built.makes_rows and",
        "has_accelerators and",
        "trust/test_limits.py::test_of_shared_rows_the_host_of_accelerators_makes_a_part_at_a_time",
    ),
    Mutation(
        "recipes/system.py",
        "makes_rows = design.features.makes_rows(shapes.table)",
        "makes_rows = False",
        "test_plan.py::test_a_plan_says_what_the_host_holds",
    ),
    Mutation(
        "plan/report.py",
        "in_parts = built.makes_rows and _spread(",
        "in_parts = _spread(",
        "test_plan.py::test_a_plan_says_what_the_host_holds",
    ),
    Mutation(
        "engine/limits.py",
        "_check(model, required, needed_by_another, ",
        "_check(model, required, needed, ",
        "trust/test_limits.py::test_members_rows_fit_in_memory",
    ),
    Mutation(
        "engine/limits.py",
        "return tuple(of_field) if left <= at_hand else None",
        "return tuple(of_field)",
        "trust/test_limits.py::test_data_that_nothing_is_too_large_for_are_blamed",
    ),
    Mutation(
        "training/footprint.py",
        "2 * max(_outputs(layers.jaxpr), default=0)",
        "max(_outputs(layers.jaxpr), default=0)",
        "trust/test_limits.py::test_the_largest_layer_of_a_large_batch_counts",
    ),
    Mutation(
        "store/cores.py",
        "yield math.ceil(quota / period)",
        "yield quota // period",
        "trust/test_limits.py::test_quotas_of_control_groups_count",
    ),
    Mutation(
        "store/cgroups.py",
        "for place in (group, *group.parents):",
        "for place in (group,):",
        "trust/test_limits.py::test_limits_of_control_groups_count",
    ),
    Mutation(
        "data/tables.py",
        "features=part.numbers([*genes, *cells], largest, ",
        "features=part.numbers([*genes, *cells], ",
        "trust/test_odd_files.py::test_numbers_that_networks_cannot_compute_with",
    ),
    Mutation(
        "data/tables.py",
        "largest = min(largest, columns.LARGEST_NUMBER)",
        "pass",
        "trust/test_odd_files.py::test_numbers_that_networks_cannot_compute_with",
    ),
    Mutation(
        "schema.py",
        "return -most if low is None else low, most if high is None else high",
        "return -most if low is None else low, 10 * most if high is None else high",
        "trust/test_limits.py::test_no_number_of_any_section_may_be_absurd",
    ),
    Mutation(
        "prepare/wells.py",
        "units.joined(text[name], None if of_unit is None else text[of_unit])",
        "text[name]",
        "prepare/test_units.py::test_units_in_a_column_of_their_own",
    ),
    Mutation(
        "prepare/roles.py",
        " if not is_empty(columns.column(name))",
        "",
        "prepare/test_units.py::test_doses_of_the_connectivity_map_have_units",
    ),
    Mutation(
        "data/columns.py",
        "[id_of(text) for text in values]",
        "values",
        "test_formats.py::test_a_compound_is_one_however_it_is_written",
    ),
    Mutation(
        "estimators/row_names.py",
        "itertools.product(*map(enumerate, found))",
        "()",
        "test_mechanism_classifier.py::test_mistakes_in_data",
    ),
    Mutation(
        "prepare/sources.py",
        "if is_hidden or not is_none:",
        "if not is_none:",
        "prepare/test_roles.py::test_what_is_no_number_is_not_missing",
    ),
    Mutation(
        "data/leaks.py",
        " and math.comb(count, few) >= PLACES * pairs",
        "",
        "test_leaks.py::test_many_columns_may_agree_by_chance",
    ),
    Mutation(
        "estimators/row_names.py",
        "if not any(names.equals(others) for names, others in pairs):",
        "if pairs:",
        "test_mechanism_classifier.py::test_rows_that_were_drawn_have_one_order",
    ),
    Mutation(
        "data/leaks.py",
        "((same == 0) | (same == count)).any()",
        "(same == count).any()",
        "test_leaks.py::test_a_copy_of_a_label_is_told",
    ),
    Mutation(
        "prepare/layout.py",
        "block[mine - start]",
        "block[: len(mine)]",
        "prepare/test_formats.py::test_cell_painting",
    ),
    Mutation(
        "prepare/preparation.py",
        "to_predict = unknown if rows.split is None else unknown | rows.split",
        "to_predict = unknown",
        "prepare/test_roles.py::test_a_split_of_annotated_rows",
    ),
    Mutation(
        "prepare/preparation.py",
        "compounds = labels.counts(annotated, treated, rows.compound)",
        "compounds = labels.counts(annotated, treated, None)",
        "prepare/test_roles.py::test_labels_of_few_compounds",
    ),
    Mutation(
        "prepare/survey.py",
        "mine = block[training[start:stop]]",
        "mine = block",
        "prepare/test_survey.py::test_statistics",
    ),
    Mutation(
        "prepare/side_tables.py",
        "rows = [row_of.get(id_of(name)) for name in source.features]",
        "rows = list(range(len(source.features)))",
        "prepare/test_formats.py::test_a_matrix_with_files_about_it",
    ),
    Mutation(
        "prepare/side_tables.py",
        "by.append(name)",
        "pass",
        "prepare/test_side_tables.py::test_a_map_of_plates_is_joined_by_plate_and_well",
    ),
    Mutation(
        "prepare/wells.py",
        'wanted = like["unit"]',
        "wanted = units.of(texts, units.MOLAR)",
        "prepare/test_units.py::test_doses_of_several_units_are_those_of_one",
    ),
    Mutation(
        "prepare/h5ad.py",
        "np.add.at(dense, (rows, columns), values)",
        "dense[rows, columns] = values",
        "prepare/test_formats.py::test_values_of_one_cell_are_added",
    ),
    Mutation(
        "prepare/findings.py",
        "if len(rows) > 1 and values[rows].any(0).sum() == 1",
        "if len(rows) > 1",
        "prepare/test_layout.py::test_what_a_screen_gives_away",
    ),
    Mutation(
        "data/prepared.py",
        'if f"data.{name}" not in given',
        "if True",
        "prepare/test_layout.py::test_the_run_takes_what_the_folder_says",
    ),
    Mutation(
        "data/tables.py",
        "prepared=prepared.read(path),",
        "prepared=None,",
        "prepare/test_layout.py::test_the_run_takes_what_the_folder_says",
    ),
    Mutation(
        "command/inference.py",
        "            known.add(rows)\n",
        "",
        "trust/test_inference.py::test_rows_that_are_called_as_training_rows_are_told",
    ),
    Mutation(
        "prepare/new_rows.py",
        "wished = [*needed, *filter(None, (trained.control_column, trained.compound))]",
        "wished = needed",
        "prepare/test_layout.py::test_new_rows_find_controls_and_compounds_where_training_rows_did",
    ),
    Mutation(
        "prepare/new_rows.py",
        "columns |= others",
        "pass",
        "prepare/test_layout.py::test_genes_are_one_in_all_versions_of_their_ids",
    ),
    Mutation(
        "prepare/new_rows.py",
        "if versions[gene := _gene(own)] == 1",
        "if (gene := _gene(own))",
        "prepare/test_layout.py::test_genes_are_one_in_all_versions_of_their_ids",
    ),
    Mutation(
        "prepare/new_rows.py",
        "id=tuple(_id(name, source) for name in trained.id)",
        "id=trained.id",
        "prepare/test_layout.py::test_names_of_rows_are_ids_in_any_format",
    ),
    Mutation(
        "prepare/side_tables.py",
        "    if not all(of.values()):",
        "    if True:",
        "prepare/test_side_tables.py::test_a_map_that_writes_some_wells_with_a_zero",
    ),
    Mutation(
        "prepare/side_tables.py",
        "< len({*one} - {None}) for one in columns):",
        "< 0 for one in columns):",
        "prepare/test_side_tables.py::test_a_map_that_writes_some_wells_with_a_zero",
    ),
    Mutation(
        "prepare/sources.py",
        " or text.lower() in _INFINITE",
        "",
        "prepare/test_roles.py::test_infinite_numbers_are_missing",
    ),
    Mutation(
        "prepare/gct.py",
        "while len(found) > wells and not found[-1]:",
        "while False:",
        "prepare/test_formats.py::test_lines_of_a_gct_may_end_with_tabs",
    ),
    Mutation(
        "prepare/sources.py",
        "            row += table.num_rows\n\n    first",
        "\n    first",
        "prepare/test_formats.py::test_lists_of_numbers_are_columns",
    ),
    Mutation(
        "prepare/list_columns.py",
        "found[is_there] = values",
        "found[: len(values)] = values",
        "prepare/test_formats.py::test_lists_of_numbers_are_columns",
    ),
    Mutation(
        "prepare/side_tables.py",
        "if len(by) == 1 and all(_WELL.fullmatch(str(key[0])) for key in rows_of):",
        "if False:",
        "prepare/test_side_tables.py::test_maps_of_several_plates_that_nothing_tells_apart_are_told",
    ),
    Mutation(
        "prepare/roles.py",
        "tuple(sorted(filter(looks_like_control, found)))",
        '("dmso",)',
        "prepare/test_roles.py::test_controls_are_told_by_their_names",
    ),
    Mutation(
        "prepare/side_tables.py",
        "        if one.isdisjoint(other_one):",
        "        if False:",
        "prepare/test_side_tables.py::test_names_of_rows_of_another_kind_join_nothing",
    ),
    Mutation(
        "prepare/side_tables.py",
        "        and name != row_names.COLUMN\n",
        "",
        "prepare/test_side_tables.py::test_names_of_rows_of_another_kind_join_nothing",
    ),
    Mutation(
        "prepare/findings.py",
        "for name in wells.compound[test & ~wells.is_control])",
        "for name in wells.compound[test | treated])",
        "prepare/test_roles.py::test_wells_to_predict_without_a_compound_are_told",
    ),
    Mutation(
        "prepare/side_tables.py",
        "if has_ids or not theirs",
        "if not theirs",
        "prepare/test_side_tables.py::test_ids_of_wells_come_before_names_that_differ_by_case",
    ),
    # Tables as tools write them: names of rows, comments, maps of plates, lists, old AnnData.
    Mutation(
        "data/formats.py",
        "names[:] = index_named(names)",
        "pass",
        "prepare/test_roles.py::test_names_of_rows_need_no_name",
    ),
    Mutation(
        "data/formats.py",
        'called = {"__index_level_0__": INDEX} if kept_index else {}',
        "called: dict[str, str] = {}",
        "prepare/test_roles.py::test_names_of_rows_need_no_name",
    ),
    Mutation(
        "data/headers.py",
        'line = _ABOVE.sub(b"", read)',
        'line = re.sub(rb"\\A(?:[ \\t]*[\\r\\n])+", b"", read)',
        "prepare/test_side_tables.py::test_comments_stand_above_a_header",
    ),
    Mutation(
        "prepare/row_names.py",
        " and is_text(table.column(INDEX))",
        "",
        "prepare/test_side_tables.py::test_numbers_of_rows_join_nothing",
    ),
    Mutation(
        "prepare/roles.py",
        "is_named = row_names.is_text(column) and _is_unique(cells.texts(column))",
        "is_named = row_names.is_text(column)",
        "prepare/test_roles.py::test_names_of_rows_need_no_name",
    ),
    Mutation(
        "prepare/roles.py",
        "if name not in {*known, row_names.COLUMN}",
        "if name not in known",
        "prepare/test_roles.py::test_names_of_rows_need_no_name",
    ),
    Mutation(
        "prepare/side_tables.py",
        "_in_words_of(source, text_tables.read(path))",
        "text_tables.read(path)",
        "prepare/test_side_tables.py::test_plate_maps_of_profiles_need_no_other_names",
    ),
    Mutation(
        "prepare/side_tables.py",
        "None if common or own is None else _of_ids(source, own, table, path)",
        "None",
        "prepare/test_side_tables.py::test_ids_of_wells_may_be_called_otherwise_in_a_file",
    ),
    Mutation(
        "prepare/lists.py",
        "if _OF_NUMPY.fullmatch(text):",
        "if False:",
        "prepare/test_roles.py::test_lists_as_numpy_and_python_write_them",
    ),
    Mutation(
        "prepare/h5ad.py",
        "if is_old else None",
        "if False else None",
        "prepare/test_formats.py::test_anndata_as_it_was_written_before_0_7",
    ),
    Mutation(
        "prepare/findings.py",
        "having[training & ~wells.is_control].any(0)",
        "having.any(0)",
        "prepare/test_roles.py::test_names_that_are_not_what_they_seem_are_told",
    ),
    Mutation(
        "prepare/suspicions.py",
        " and words <= _UNTREATED | _BESIDE\n",
        "\n",
        "test_doctests.py::test_examples",
    ),
    # Attributions: ends of the lines, weights, and the way back to the columns.
    Mutation(
        "training/attribution.py",
        "begin + nodes[index] * (end - begin)",
        "begin + nodes[index] * end",
        "test_attribution.py::test_more_steps_miss_less_where_a_network_is_bent",
    ),
    Mutation(
        "training/attribution.py",
        "jnp.where(is_held, end, start)",
        "jnp.where(is_held, start, start)",
        "test_attribution.py::test_columns_that_are_held_have_no_part",
    ),
    Mutation(
        "recipes/explained.py",
        "self._sets[list(group)] if",
        "0 * self._sets[list(group)] if",
        "test_attribution.py::test_rows_sum_to_the_log_odds_of_the_networks",
    ),
    Mutation(
        "recipes/explained.py",
        "Lines(ends, table[-1],",
        "Lines(ends, table[0],",
        "test_attribution.py::test_rows_sum_to_the_log_odds_of_the_networks",
    ),
    Mutation(
        "recipes/explained.py",
        "(share or 1.0) * of[of > 0] / of.sum()",
        "(share or 1.0) * of[of > 0] / of.max()",
        "test_attribution.py::test_rows_sum_to_the_log_odds_of_the_networks",
    ),
    Mutation(
        "recipes/origins.py",
        "(gradients * slopes) @ self.loadings",
        "gradients @ self.loadings",
        "test_attribution.py::test_a_bounded_component_is_shared_as_its_sum_is",
    ),
    Mutation(
        "recipes/origins.py",
        "len(names) * are_sums",
        "0 * are_sums",
        "test_attribution.py::test_what_is_no_function_of_columns_keeps_a_name",
    ),
    Mutation(
        "engine/explanation.py",
        "if not model.has_networks(context.levels):",
        "if not any(model.stages(context.levels, True)):",
        "test_baseline.py::test_what_does_not_apply_is_left_out_with_a_note",
    ),
    Mutation(
        "recipes/attribution_baseline.py",
        "dataset.is_control | (not of_controls)",
        "~dataset.is_control | (not of_controls)",
        "test_attribution.py::test_the_baseline_is_the_mean_control_or_the_mean_row",
    ),
    Mutation(
        "command/inference.py",
        'made_by["explain"] = seen.question',
        "seen.question",
        "test_attribution.py::test_new_rows_are_explained_by_the_work_folder_alone",
    ),
    Mutation(
        "command/repair.py",
        "        attribution_baseline.FILE,\n",
        "",
        "test_attribution.py::test_a_damaged_baseline_is_told_and_repaired",
    ),
    Mutation(
        "engine/run.py",
        "    explanation.check(config, dataset)\n",
        "",
        "test_attribution.py::test_mistakes_are_told",
    ),
    # Several processes, and memory.
    Mutation(
        "store/files.py",
        "        arrival.wait_for(path, arrival.Content(*processes.said_by_first(None)))\n",
        "        processes.said_by_first(None)\n",
        "test_several.py::test_a_file_is_waited_for",
    ),
    Mutation(
        "store/files.py",
        "        arrival.wait_for_removal(Path(os.path.normpath(where / name)))\n",
        "        pass\n",
        "test_several.py::test_removal_is_waited_for",
    ),
    Mutation(
        "store/workdir.py",
        "            arrival.wait_for(self.path / name, arrival.Content(name, size, sha256))\n",
        "            pass\n",
        "test_several.py::test_a_work_folder_is_seen_whole_before_the_run",
    ),
    Mutation(
        "store/workdir.py",
        "stored, value = self.read(), processes.said_by_first(value)",
        "stored = self.read()",
        "test_several.py::test_what_is_resolved_is_the_first_ones",
    ),
    Mutation(
        "store/workdir.py",
        "first = processes.said_by_first(fields)",
        "first = fields",
        "test_several.py::test_processes_with_other_data_are_told",
    ),
    Mutation(
        "training/progress.py",
        "if not processes.said_by_first(os.path.lexists(self._path)):",
        "if not os.path.lexists(self._path):",
        "test_several.py::test_a_log_that_only_the_first_sees_is_cut_by_all",
    ),
    Mutation(
        "training/checkpoints.py",
        "max(self._manager.all_steps(), default=0)",
        "0",
        "trust/test_checkpoints.py::test_checkpoints_of_something_else_stay_until_newer_ones_are_saved",
    ),
    Mutation(
        "training/checkpoints.py",
        "    if sys.exception() is None:\n",
        "    if True:\n",
        "e2e/test_processes.py::test_a_process_that_cannot_write_its_part_ends_both",
    ),
    Mutation(
        "training/slots.py",
        "return tree if processes.are_several() else self.unpad(tree)",
        "return self.unpad(tree)",
        "test_parallel.py::test_of_several_processes_each_saves_what_it_holds",
    ),
    Mutation(
        "training/checkpoints.py",
        "processes.gathered(found).max(0)",
        "found",
        "trust/test_checkpoints.py::test_checksums_come_from_the_processes_that_hold_the_shards",
    ),
    Mutation(
        "training/checkpoints.py",
        "if len(array) != len(checksums):",
        "if False:",
        "trust/test_checkpoints.py::test_every_shard_has_its_checksum",
    ),
    Mutation(
        "training/checkpoints.py",
        "processes.gathered(np.array(verdict, np.int32)).max()",
        "verdict",
        "trust/test_checkpoints.py::test_one_process_that_finds_damage_decides_for_all",
    ),
    Mutation(
        "training/checkpoints.py",
        "                _check_is_damage(folder, error)\n",
        "",
        "trust/test_checkpoints.py::test_what_is_no_damage_removes_nothing",
    ),
    Mutation(
        "training/checkpoints.py",
        "    if signals.received():\n",
        "    if False:\n",
        "trust/test_checkpoints.py::test_a_signal_while_a_checkpoint_is_read_removes_nothing",
    ),
    Mutation(
        "training/checkpoints.py",
        "_explained(reason))\n                continue\n",
        "_explained(reason))\n",
        "trust/test_checkpoints.py::test_checkpoints_of_something_else_stay_until_newer_ones_are_saved",
    ),
    Mutation(
        "training/loop.py",
        "self._origin, self.settings.cut)",
        "self._origin)",
        "test_loop.py::test_resume_in_other_groups_leaves_out_what_is_of_the_others",
    ),
    Mutation(
        "store/disk.py",
        "if name not in _OTHER)",
        "if True)",
        "trust/test_checkpoints.py::test_files_that_are_missing_are_damage",
    ),
    Mutation(
        "training/checkpoints.py",
        'if meta.get("of", self._of(position)) != self._of(position):',
        "if False:",
        "trust/test_checkpoints.py::test_checkpoints_of_another_run_are_left_out",
    ),
    Mutation(
        "training/checkpoints.py",
        "except IndexError as error:",
        "except ZeroDivisionError as error:",
        "test_loop.py::test_resume_in_other_groups_leaves_out_what_is_of_the_others",
    ),
    Mutation(
        "training/group.py",
        "counts[active].sum()",
        "counts.sum()",
        "test_loop.py::test_stopped_members_keep_their_state",
    ),
    Mutation(
        "training/loop.py",
        "contextlib.closing(StageProgress(",
        "contextlib.nullcontext(StageProgress(",
        "test_progress.py::test_a_stage_that_fails_ends_its_bar",
    ),
    Mutation(
        "training/program.py",
        "frozenset((self._compiler_options or {}).items())",
        "self._compiler_options is None",
        "test_reuse.py::test_a_program_is_compiled_once_in_a_process",
    ),
    Mutation(
        "store/peers.py",
        "        os.dup2(nowhere, 2)\n",
        "",
        "test_several.py::test_nothing_is_written_after_the_last_line",
    ),
    Mutation(
        "store/peers.py",
        '        _write_last("")\n',
        "",
        "test_several.py::test_nothing_is_written_after_the_line_of_who_ends_first",
    ),
    Mutation(
        "store/ending.py",
        "    peers.end_with(line, status)\n",
        "",
        "test_several.py::test_a_mistake_is_told_to_the_others",
    ),
    Mutation(
        "store/ending.py",
        "                peers.leave_to_others()\n",
        "",
        "test_several.py::test_what_fails_because_another_has_ended_is_not_told",
    ),
    Mutation(
        "store/signals.py",
        "            listener(ended.line, ended.status)\n",
        "            pass\n",
        "test_several.py::test_who_is_ended_at_once_tells_the_others",
    ),
    Mutation(
        "store/processes.py",
        "            local_device_ids=_own_gpus(),\n",
        "",
        "test_launch_scripts.py::test_a_task_of_slurm_takes_its_own_gpus",
    ),
    Mutation(
        "recipes/context.py",
        'rows = self.workdir.resolved(f"{stage.name}: rows", found, asked)',
        "rows = found",
        "test_shared_rows.py::test_a_run_goes_on_with_the_rows_that_it_began_with",
    ),
    Mutation(
        "recipes/context.py",
        'asked = parallel.rows != "auto"',
        "asked = False",
        "test_shared_rows.py::test_a_run_goes_on_with_the_rows_that_it_began_with",
    ),
    Mutation(
        "recipes/fitting.py",
        "asked = context.model, remat, context.parallel.strategy",
        'asked = context.model, remat, "auto"',
        "test_exhausted.py::test_a_strategy_that_shares_nothing_is_told_with_the_field",
    ),
    Mutation(
        "recipes/context.py",
        "asked = parallel.members_at_once > 0",
        "asked = False",
        "test_exhausted.py::test_members_at_once_that_are_asked_for_count",
    ),
    Mutation(
        "recipes/fitting.py",
        "with exhausted.told(lambda: exhausted.of_training(stage, settings, *asked))",
        "if True",
        "test_exhausted.py::test_training_without_memory_is_told",
    ),
    Mutation(
        "recipes/prediction.py",
        "            with exhausted.told(functools.partial(remedy, chunk_rows)):\n",
        "            if remedy:\n",
        "test_exhausted.py::test_predicting_new_rows_without_memory_is_told",
    ),
    Mutation(
        "training/layout.py",
        " - copies * shapes.num_bytes(shapes.shared(stage))",
        "",
        "test_activations.py::test_members_that_fit_leave_room_for_tables_and_activations",
    ),
    Mutation(
        "training/layout.py",
        "copies = 1 if shares_rows else num_shards",
        "copies = num_shards",
        "test_shared_rows.py::test_shared_rows_leave_room_for_more_members",
    ),
    Mutation(
        "training/layout.py",
        "return may and not stage.forward.shares_batches",
        "return may",
        "test_shared_rows.py::test_rows_are_shared_where_copies_would_fill_the_memory",
    ),
    Mutation(
        "training/shared_rows.py",
        "    return bits.astype(np.uint32) if size == 2 else bits\n",
        "    return values\n",
        "test_shared_rows.py::test_rows_arrive_as_they_are",
    ),
    Mutation(
        "recipes/profile_features.py",
        "if size > KEPT_BYTES and",
        "if False and",
        "test_profile_features.py::test_many_columns_are_not_kept_beside_the_table",
    ),
    Mutation(
        "recipes/profile.py",
        "        if name == self._last:\n",
        "        if False:\n",
        "test_profile_features.py::test_what_is_fitted_last_is_not_applied",
    ),
    # Large tables.
    Mutation(
        "features/column_sums.py",
        "np.concatenate([self._rows, part])",
        "self._rows + part.sum(0)",
        "test_large_tables.py::test_sums_of_parts_are_those_of_all_rows",
    ),
    Mutation(
        "recipes/profile.py",
        "count = widths.num_train if alone else widths.num_rows",
        "alone = False; count = widths.num_rows",
        "test_large_tables.py::test_a_profile_is_fitted_on_parts_to_the_same_bits",
    ),
    Mutation(
        "recipes/profile_features.py",
        "[first - block.start : last - block.start]",
        "[: last - first]",
        "test_large_tables.py::test_rows_are_made_where_they_are_asked_for",
    ),
    Mutation(
        "training/shared_rows.py",
        "table.write(start, rows[:count])",
        "table.write(0, rows[:count])",
        "test_large_tables.py::test_devices_that_share_rows_get_one_part_after_another",
    ),
    Mutation(
        "data/dataset.py",
        "array[start : start + HASHED_ROWS], np.float64)",
        "array[start : start + HASHED_ROWS])",
        "test_large_tables.py::test_features_in_float32_are_the_same_numbers",
    ),
    Mutation(
        "data/columns.py",
        "keeps_float32 and kinds == {pa.float32()}",
        "keeps_float32 and pa.float32() in kinds",
        "test_large_tables.py::test_a_file_of_float32_is_held_as_it_is",
    ),
    Mutation(
        "data/tables.py",
        "        block = blocks.pop()\n",
        "        block = blocks[-1]; blocks = blocks[:-1]\n",
        "test_tables.py::test_blocks_are_stacked_without_a_second_table",
    ),
    Mutation(
        "training/layout.py",
        " + activations.num_bytes(stage)\n",
        "\n",
        "test_activations.py::test_members_that_fit_leave_room_for_tables_and_activations",
    ),
    Mutation(
        "features/umap_joint.py",
        "    looks_at_all_rows = True\n",
        "",
        "test_profile_features.py::test_what_looks_at_all_rows_gets_them_together",
    ),
    # A complete run, and the cache of compiled programs.
    Mutation(
        "command/completion.py",
        "return listed == dict(_contents(workdir.path))",
        "return True",
        "trust/test_grid.py::test_a_run_is_complete_only_as_it_was_made",
    ),
    Mutation(
        "command/completion.py",
        '"config": files.content_hash(plain(config)),',
        '"config": "",',
        "trust/test_grid.py::test_a_run_is_complete_only_as_it_was_made",
    ),
    Mutation(
        "command/completion.py",
        '"bound": files.content_hash(bound["config"]),',
        '"bound": "",',
        "trust/test_grid.py::test_a_run_is_complete_only_as_it_was_made",
    ),
    Mutation(
        "command/entry.py",
        "        completion.write(config, workdir, dataset)\n",
        "        pass\n",
        "trust/test_grid.py::test_a_complete_run_does_nothing_anew",
    ),
    Mutation(
        "command/console.py",
        "        if size <= most:\n",
        "        if True:\n",
        "trust/test_quiet.py::test_programs_that_were_used_last_are_kept",
    ),
    # The table of benchmarks.
    Mutation(
        "../benchmarks/timing.py",
        "            if settles:\n",
        "            if False:\n",
        "test_benchmark_table.py::test_a_row_may_settle_or_run_once_cold",
    ),
    Mutation(
        "../benchmarks/timing.py",
        "row.repeats(size), row.warms, row.settles, clocks, until)\n        except",
        "row.repeats(size), True, row.settles, clocks, until)\n        except",
        "test_benchmark_table.py::test_a_row_may_settle_or_run_once_cold",
    ),
    Mutation(
        "../benchmarks/table.py",
        'np.array(side[clock]) / side["count"]',
        "np.array(side[clock])",
        "test_benchmark_table.py::test_ratios_bounds_and_lines",
    ),
    Mutation(
        "../benchmarks/table.py",
        "max(one[name] for one in rates)",
        "rates[0][name]",
        "test_benchmark_table.py::test_ratios_bounds_and_lines",
    ),
    Mutation(
        "../benchmarks/__main__.py",
        "return 0 if table.is_whole(record) else 1",
        "return 0",
        "test_benchmark_table.py::test_the_command_writes_table_and_json",
    ),
    Mutation(
        "../benchmarks/registry.py",
        'if row.quick or size != "quick"]',
        "]",
        "test_benchmark_table.py::test_names_are_rows_or_groups",
    ),
    Mutation(
        "../benchmarks/growth.py",
        '        sizes["rows" if axis == "inference" else axis] = value\n',
        '        sizes["rows"] = value\n',
        "test_benchmark_table.py::test_growth_changes_one_size_at_a_time",
    ),
    Mutation(
        "../benchmarks/growth.py",
        "    if end is not None:\n        turns =",
        "    if False:\n        turns =",
        "test_benchmark_table.py::test_growth_ends_in_time_with_the_smallest_points_of_all_axes",
    ),
    Mutation(
        "../benchmarks/running.py",
        "            _end_session(begun.pid)\n",
        "            begun.kill()\n",
        "test_benchmark_table.py::test_what_takes_too_long_is_ended_with_what_it_has_started",
    ),
    Mutation(
        "../benchmarks/running.py",
        "count = (num_first if is_first else len(order)) - number",
        "count = len(order) - number",
        "test_benchmark_table.py::test_every_group_has_its_first_row_before_any_has_its_second",
    ),
    Mutation(
        "../benchmarks/timing.py",
        "        if until is not None and ended + (ended - begun) > until:\n",
        "        if until is not None and ended > until:\n",
        "test_benchmark_table.py::test_a_row_takes_no_turn_beyond_its_time",
    ),
    Mutation(
        "../benchmarks/running.py",
        "            if is_last or answer is None or not process.is_running:\n",
        "            if is_last or answer is None:\n",
        "test_benchmark_table.py::test_a_process_that_ends_costs_its_row_alone",
    ),
    Mutation(
        "../benchmarks/running.py",
        "list(_in_rounds(rows) if end is not None else rows)",
        "list(rows)",
        "test_benchmark_table.py::test_every_group_has_its_first_row_before_any_has_its_second",
    ),
    Mutation(
        "training/program.py",
        "with in_precision(self._precision):",
        "with in_precision(None):",
        "test_matmul_precision.py::test_every_program_of_a_stage_asks_for_its_precision",
    ),
    Mutation(
        "training/loop.py",
        "precision=stage.forward.precision, inner=inner",
        "precision=None, inner=inner",
        "test_matmul_precision.py::test_every_program_of_a_stage_asks_for_its_precision",
    ),
    Mutation(
        "training/predict.py",
        "predict(forward, devices.batch_axis), forward.precision",
        "predict(forward, devices.batch_axis), None",
        "test_matmul_precision.py::test_every_program_of_a_stage_asks_for_its_precision",
    ),
    Mutation(
        "training/predict.py",
        "name, program, devices, precision=forward.precision, inner=inner, donate=False",
        "name, program, devices, inner=inner, donate=False",
        "test_matmul_precision.py::test_predictions_and_attributions_of_finished_members",
    ),
    Mutation(
        "recipes/design.py",
        "            matmul_precision=context.config.matmul_precision,\n",
        "",
        "test_matmul_precision.py::test_every_program_of_a_stage_asks_for_its_precision",
    ),
    Mutation(
        "models/tabnet.py",
        'matmul_precision: ClassVar[str] = "highest"',
        'matmul_precision: ClassVar[str] = "default"',
        "test_matmul_precision.py::test_every_program_of_a_stage_asks_for_its_precision",
    ),
    Mutation(
        "estimators/tabnet_estimator.py",
        "in_precision(TabNet.matmul_precision)",
        "in_precision(None)",
        "test_matmul_precision.py::test_tabnets_estimators_predict_as_they_are_trained",
    ),
    Mutation(
        "plan/step.py",
        "stage.forward.precision or set_for_all",
        "set_for_all",
        "test_matmul_precision.py::test_every_program_of_a_stage_asks_for_its_precision",
    ),
    Mutation(
        "engine/other_folds.py",
        "return POSSIBLE if {*other.models, *blends} - scored else COMPLETE",
        "return POSSIBLE",
        "test_other_folds.py::test_no_other_score_is_advised_where_there_can_be_none",
    ),
    Mutation(
        "recipes/population_notes.py",
        's.get("known", s["rows"])',
        's["rows"]',
        "test_missing_targets.py::test_a_run_with_unknown_labels",
    ),
    Mutation(
        "prepare/new_rows.py",
        "self.described, everything, self._compound",
        "self.described, everything",
        "prepare/test_layout.py::test_new_rows_keep_their_compounds",
    ),
    Mutation(
        "engine/participation.py",
        "    config = settled_sizes.settled(config, workdir, data)\n",
        "",
        "test_sizes.py::test_a_folder_keeps_its_sizes",
    ),
    Mutation(
        "engine/settled_sizes.py",
        "known = {place: _frozen(stored[place]) for place in places if place in stored}",
        "known = {}",
        "test_sizes.py::test_a_folder_keeps_its_sizes",
    ),
    Mutation(
        "recipes/sizes.py",
        "case.original if rows >= FULL_ROWS else size(case)",
        "size(case)",
        "test_sizes.py::test_sizes_end_at_the_originals",
    ),
    Mutation(
        "recipes/sizes.py",
        "_section(model, section), before)",
        "before, before)",
        "test_sizes.py::test_a_value_that_is_given_stays_and_others_follow_it",
    ),
    Mutation(
        "engine/participation.py",
        "    config = activation_types.settled(config, workdir)\n",
        "",
        "test_activation_types.py::test_a_new_folder_has_the_type_of_its_devices",
    ),
    Mutation(
        "engine/activation_types.py",
        "(known or {}).get(name, chosen)",
        "chosen",
        "test_activation_types.py::test_another_machine_goes_on_in_the_type_of_the_folder",
    ),
    Mutation(
        "engine/activation_types.py",
        'if bfloat16 and config.precision == "float32" else',
        "if bfloat16 else",
        "test_activation_types.py::test_a_new_folder_has_the_type_of_its_devices",
    ),
    Mutation(
        "engine/activation_types.py",
        "all(map(multiplies_bfloat16, devices))",
        "all(map(multiplies_bfloat16, __import__('jax').devices()))",
        "test_activation_types.py::test_the_device_that_is_chosen_decides",
    ),
    Mutation(
        "plan/report.py",
        "    config = activation_types.of(config, target.card.multiplies_bfloat16)\n",
        "",
        "test_activation_types.py::test_a_plan_is_of_the_type_of_its_cards",
    ),
)


class Copy:
    """A copy of the checkout in which tests run on mistakes."""

    def __init__(self, folder: Path):
        self._root, self._cache = folder / "checkout", folder / "xla"
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, found.split("\0")):
            if (ROOT / name).is_file():
                (self._root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self._root / name)

    def run(
        self, tests: list[str], *options: str, limit: float | None = None
    ) -> tuple[int | None, str]:
        """Returns pytest's exit status, None if it took `limit` seconds, and what it printed."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self._root),
            # A mutated file may have the size and the second of the file before.
            "PYTHONDONTWRITEBYTECODE": "1",
            # What a mistake does not touch is compiled once.
            "JAX_COMPILATION_CACHE_DIR": str(self._cache),
            "JAX_NUM_CPU_DEVICES": os.environ.get("JAX_NUM_CPU_DEVICES") or "3",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *tests]
        with subprocess.Popen(
            command,
            cwd=self._root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with what the tests have started
                return None, ""
            return process.returncode, output

    def run_mutated(self, mutation: Mutation) -> tuple[int | None, str]:
        """Returns what `run` finds of the mutation's tests while the mistake is there."""
        path = self._root / "moa_jax" / mutation.file
        text = path.read_text(encoding="utf-8")
        path.write_text(mutation.mutated(text), encoding="utf-8")
        try:
            return self.run(mutation.selected(), "-x", limit=LONGEST_SECONDS)
        finally:
            path.write_text(text, encoding="utf-8")


def check(mutations: tuple[Mutation, ...], folder: Path, jobs: int) -> bool:
    """Prints what catches each mutation; returns whether something catches all of them."""
    copies: queue.Queue[Copy] = queue.Queue()
    for number in range(jobs):
        copies.put(Copy(folder / str(number)))

    start, first = time.monotonic(), copies.get()
    tests = sorted({test for mutation in mutations for test in mutation.selected()})
    status, output = first.run(tests, "-n", str(jobs), "--dist", "loadfile")
    print(f"without a mutation: {len(tests)} tests, {time.monotonic() - start:.0f} s", flush=True)
    if status != PASSED:
        print(output, "They must pass before anything is told by their failing.", sep="\n")
        return False
    copies.put(first)

    def run(mutation: Mutation) -> tuple[int | None, str, float]:
        copy, started = copies.get(), time.monotonic()
        try:
            return *copy.run_mutated(mutation), time.monotonic() - started
        finally:
            copies.put(copy)

    caught = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for mutation, (status, output, seconds) in zip(
            mutations, pool.map(run, mutations), strict=True
        ):
            caught += status == FAILED
            verdict = {FAILED: "caught", PASSED: "SURVIVED", None: "NO END"}.get(status, "BROKEN")
            print(f"{verdict:8} {seconds:5.0f} s  {mutation.title}", flush=True)
            if verdict == "BROKEN":
                print(output)
    print(f"caught {caught} of {len(mutations)} in {time.monotonic() - start:.0f} s")
    return caught == len(mutations)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="plants mistakes and expects tests to fail")
    parser.add_argument("words", nargs="*", help="mutations whose file or text has one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies at a time")
    arguments = parser.parse_args()
    chosen = tuple(
        mutation
        for mutation in MUTATIONS
        if not arguments.words or any(word in mutation.title for word in arguments.words)
    )
    with tempfile.TemporaryDirectory() as folder:
        return 0 if chosen and check(chosen, Path(folder), arguments.jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
