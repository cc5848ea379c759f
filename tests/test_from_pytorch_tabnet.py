"""Models that pytorch-tabnet has saved, and its loss of pretraining, where it is installed."""

import json
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from moa_jax import TabNetClassifier, TabNetPretrainer, TabNetRegressor
from moa_jax.errors import UserError
from moa_jax.training import losses

torch = pytest.importorskip("torch")
pytorch_tabnet = pytest.importorskip("pytorch_tabnet")
tab_model = pytest.importorskip("pytorch_tabnet.tab_model")
pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = {"max_epochs": 3, "batch_size": 64, "virtual_batch_size": 32, "drop_last": False}


def rows(count=200):
    x = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    x[:, 1] = np.arange(count) % 2
    x[:, 4] = np.arange(count) % 3
    return x


def saved(model, folder):
    return model.save_model(str(folder / "model"))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"cat_idxs": [4, 1], "cat_dims": [3, 2], "cat_emb_dim": 1},
        {"mask_type": "entmax", "n_steps": 2, "n_shared": 1, "n_independent": 1, "gamma": 1.7},
    ],
    ids=["plain", "embeddings", "entmax"],
)
def test_classifiers(tmp_path, parameters):
    x = rows()
    y = np.array(["low", "middle", "top"])[(x[:, 0] > 0).astype(int) + (x[:, 2] > 0)]
    theirs = tab_model.TabNetClassifier(verbose=0, seed=3, **parameters)
    theirs.fit(x, y, **SHORT)
    found = TabNetClassifier.from_pytorch_tabnet(saved(theirs, tmp_path))
    np.testing.assert_allclose(found.predict_proba(x), theirs.predict_proba(x), atol=1e-5)
    assert found.classes_.tolist() == ["low", "middle", "top"]
    assert (found.predict(x) == theirs.predict(x)).all()
    assert np.isnan(found.feature_importances_).all() and found.best_epoch_ == 0
    if not parameters:
        explanation, masks = theirs.explain(x)
        np.testing.assert_allclose(found.explain(x)[0], explanation, rtol=3e-5, atol=1e-5)
        np.testing.assert_allclose(found.explain(x)[1][1], masks[1], atol=1e-5)
    found.save(tmp_path / "ours")
    again = TabNetClassifier.load(tmp_path / "ours")
    np.testing.assert_array_equal(again.predict_proba(x), found.predict_proba(x))
    assert np.isnan(again.feature_importances_).all()


def test_regressors_and_files_of_another_kind(tmp_path):
    x = rows()
    theirs = tab_model.TabNetRegressor(verbose=0)
    theirs.fit(x, np.column_stack([x[:, 0], 3 * x[:, 2] + 1]), **SHORT)
    path = saved(theirs, tmp_path)
    found = TabNetRegressor.from_pytorch_tabnet(path)
    np.testing.assert_allclose(found.predict(x), theirs.predict(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="expected a classifier, found a regressor"):
        TabNetClassifier.from_pytorch_tabnet(path)
    found.save(tmp_path / "ours")
    again = TabNetRegressor.load(tmp_path / "ours")
    np.testing.assert_array_equal(again.predict(x), found.predict(x))


def test_files_of_version_two(tmp_path):
    """They have the parameters alone, and the encoder under another name."""
    x = rows()
    theirs = tab_model.TabNetClassifier(verbose=0)
    theirs.fit(x, x[:, 0] > 0, **SHORT)
    path = saved(theirs, tmp_path)
    with zipfile.ZipFile(path) as archive:
        stored = json.loads(archive.read("model_params.json"))["init_params"]
        with archive.open("network.pt") as file:
            state = torch.load(file, weights_only=True)
    state = {name.replace("tabnet.encoder.", "tabnet."): value for name, value in state.items()}
    torch.save(state, tmp_path / "network.pt")
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("model_params.json", json.dumps(stored))
        archive.write(tmp_path / "network.pt", "network.pt")
    found = TabNetClassifier.from_pytorch_tabnet(tmp_path / "old.zip")
    np.testing.assert_allclose(found.predict_proba(x), theirs.predict_proba(x), atol=1e-5)
    assert found.classes_.tolist() == [0, 1]
    named = TabNetClassifier.from_pytorch_tabnet(tmp_path / "old.zip", classes=["no", "yes"])
    assert named.classes_.tolist() == ["no", "yes"]
    with pytest.raises(UserError, match="expected 2 classes, found 3"):
        TabNetClassifier.from_pytorch_tabnet(tmp_path / "old.zip", classes=range(3))


def test_models_that_are_none_of_these(tmp_path):
    pretraining = pytest.importorskip("pytorch_tabnet.pretraining")
    x = rows()
    theirs = pretraining.TabNetPretrainer(verbose=0)
    theirs.fit(x, **SHORT)
    with pytest.raises(UserError, match="expected a classifier or a regressor, found a pretrain"):
        TabNetClassifier.from_pytorch_tabnet(saved(theirs, tmp_path))
    wide = {"cat_idxs": [4, 1], "cat_dims": [3, 2], "cat_emb_dim": [2, 3]}
    theirs = tab_model.TabNetClassifier(verbose=0, **wide)
    theirs.fit(x, x[:, 0] > 0, **SHORT)
    with pytest.raises(UserError, match="found one weight for all of them, as pytorch-tabnet has"):
        TabNetClassifier.from_pytorch_tabnet(saved(theirs, tmp_path))
    multitask = pytest.importorskip("pytorch_tabnet.multitask")
    theirs = multitask.TabNetMultiTaskClassifier(verbose=0)
    theirs.fit(x, np.stack([x[:, 0] > 0, x[:, 2] > 0], 1).astype(int), **SHORT)
    with pytest.raises(UserError, match="expected a model of one task, found one of several"):
        TabNetClassifier.from_pytorch_tabnet(saved(theirs, tmp_path))
    with pytest.raises(UserError, match=r"none\.zip: no such file"):
        TabNetClassifier.from_pytorch_tabnet(tmp_path / "none.zip")


def test_the_loss_of_pretraining_is_theirs_but_for_its_means():
    """They take the mean over rows and hidden columns, and the unbiased variance."""
    metrics = pytest.importorskip("pytorch_tabnet.metrics")
    generator = np.random.default_rng(0)
    targets, columns = generator.normal(3, 2, size=(2, 40, 6))
    hidden = np.argsort(generator.random((40, 6)), axis=1) < 2.0
    theirs = metrics.UnsupervisedLoss(
        *(torch.tensor(array, dtype=torch.float64) for array in (columns, targets, hidden)), eps=0
    )
    given = (jnp.asarray(array, jnp.float32) for array in (columns, targets, hidden))
    found = losses.reconstruction_error(*given, jnp.ones(40, bool))
    np.testing.assert_allclose(float(found) / 2 * 39 / 40, float(theirs), rtol=1e-6)


def test_their_pretrainer_is_no_start(tmp_path):
    pretraining = pytest.importorskip("pytorch_tabnet.pretraining")
    with pytest.raises(ValueError, match="expected a fitted TabNetPretrainer, found TabNetPre"):
        TabNetRegressor().fit(
            rows(), rows()[:, 0], from_unsupervised=pretraining.TabNetPretrainer()
        )
    assert TabNetPretrainer is not pretraining.TabNetPretrainer
