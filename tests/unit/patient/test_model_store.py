"""Models as files: what is written, what is refused, and that a model read again answers as it did."""

import json

import numpy as np
import pytest
from makers import card, volume_cohort

from tle_utils.base import fingerprints
from tle_utils.base.errors import TLEError
from tle_utils.imaging import atlas
from tle_utils.models import predictions, regional
from tle_utils.patient import ensemble, model_store

OWN = {"modulate": True, "fwhm_mm": 0.0, "y_mm": (-24,), "space": atlas.SPACE}


def trained(components=("regional",), n_folds=2):
    volumes, groups = volume_cohort()
    rows = [np.arange(start, len(groups), n_folds) for start in range(n_folds)]
    temperatures = dict.fromkeys((*components, "joint"), 1.2)
    return [ensemble.FoldModel({"regional": regional.train_regions(volumes, groups, r)}, temperatures) for r in rows]


@pytest.fixture
def written(tmp_path):
    return model_store.write_models(tmp_path, name="All regions", folds=trained(), card=card())


def edit(folder, change):
    """Change the card's JSON in place."""
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))


def test_read_again_it_answers_as_before(written, tmp_path):
    volumes, groups = volume_cohort(seed=1)
    model = model_store.load_models(tmp_path, **OWN)
    before = ensemble.ask_model(ensemble.Ensemble(card(), trained()), None, volumes)
    after = ensemble.ask_model(model, None, volumes)
    np.testing.assert_array_equal(before.p, after.p)
    np.testing.assert_allclose(after.p.sum(axis=1), 1)
    np.testing.assert_allclose(predictions.geometric_mean(after.folds), after.p)
    side = after.p[:, 1] > after.p[:, 2]
    assert (side[groups == "left"]).mean() > 0.9 and (~side[groups == "right"]).mean() > 0.9


def test_same_model_same_bytes(written, tmp_path):
    other = model_store.write_models(tmp_path / "other", name="All regions", folds=trained(), card=card())
    names = sorted(path.name for path in written.iterdir())
    assert names == ["README.md", "fold-00.npz", "fold-01.npz", "model.json"]
    assert all((written / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_results_of_single_participants_are_not_written(tmp_path):
    folds = trained()
    private = dict.fromkeys(model_store.LEFT_OUT, np.arange(3.0))
    folds = [fold._replace(components={"regional": fold.components["regional"] | private}) for fold in folds]
    path = model_store.write_models(tmp_path, name="m", folds=folds, card=card()) / "fold-00.npz"
    with np.load(path) as file:
        assert not {name.partition(".")[2] for name in file} & set(model_store.LEFT_OUT)


def test_page_for_people_says_what_it_is(written):
    text = (written / "README.md").read_text()
    for words in (
        "For research only",
        "All regions",
        "30 left",
        "abc with uncommitted changes",
        "0" * 64,
        "fold-01.npz",
    ):
        assert words in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"modulate": False}, "its modulate is True, here it is False"),
        ({"fwhm_mm": 4.0}, "its fwhm_mm is 0.0, here it is 4.0"),
        ({"space": "MNI152NLin6Asym"}, "its space is"),
    ],
)
def test_model_for_other_maps_is_refused(written, own, words):
    with pytest.raises(TLEError, match=words) as error:
        model_store.load_models(written, **OWN | own)
    assert "choose a model" in str(error.value) and "\n" not in str(error.value)


def test_model_of_other_slices_is_refused(tmp_path):
    folds = [fold._replace(components={"multitask": {"options": np.asarray("{}")}}) for fold in trained(("multitask",))]
    changed = card(components=("multitask",), y_mm=(-30,))
    folder = model_store.write_models(tmp_path, name="net", folds=folds, card=changed)
    with pytest.raises(TLEError, match=r"its y_mm is \(-30,\), here it is \(-24,\)"):
        model_store.load_models(folder, **OWN)
    with pytest.raises(TLEError, match=r"has slices \(-24,\), the card \(-30,\)"):
        model_store.load_models(folder, **OWN | {"y_mm": (-30,)})


def test_one_changed_byte_is_refused(written):
    path = written / "fold-01.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(TLEError, match=r"checksum of fold-01.npz is not the card's: run notebook 06"):
        model_store.load_models(written, **OWN)


def test_lost_file_is_refused(written):
    (written / "fold-00.npz").unlink()
    with pytest.raises(TLEError, match="fold-00.npz is missing"):
        model_store.load_models(written, **OWN)


def test_pickled_objects_are_never_read(written):
    path = written / "fold-00.npz"
    np.savez(path, **{"regional.share": np.array([{"any": "object"}], object)})
    edit(written, lambda content: content["files"].update({"fold-00.npz": fingerprints.sha256(path)}))
    with pytest.raises(TLEError, match="not an npz file of plain arrays"):
        model_store.load_models(written, **OWN)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("space"), "space: Field required"),
        (lambda content: content.update(extra=1), "extra: Extra inputs"),
        (lambda content: content.update(seed="none"), "seed: Input should be a valid integer"),
        (lambda content: content.update(files={}), "names no file"),
        (lambda content: content.update(files={"../fold-00.npz": "0"}), "outside its folder"),
        (lambda content: content.update(classes=["left", "right"]), "its classes is"),
    ],
)
def test_card_that_does_not_fit_is_named(written, change, words):
    edit(written, change)
    with pytest.raises(TLEError, match=words):
        model_store.load_models(written, **OWN)


def test_card_that_is_no_json_is_named(written):
    (written / "model.json").write_text("{")
    with pytest.raises(TLEError, match=r"model.json: content: .*run notebook 06"):
        model_store.load_models(written, **OWN)


def test_full_disk_leaves_the_model_that_was_there(written, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in written.iterdir()}

    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_store.np, "savez", full)
    with pytest.raises(TLEError, match="No space left on device"):
        model_store.write_models(tmp_path, name="All regions", folds=trained(), card=card(seed=7))
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all-regions", "chosen.txt"]


def test_the_last_one_written_is_taken(written, tmp_path):
    model_store.write_models(tmp_path, name="other", folds=trained(), card=card())
    assert model_store.find_model(tmp_path).name == "other"
    (tmp_path / "chosen.txt").unlink()
    with pytest.raises(TLEError, match=r"2 models \(all-regions, other\)"):
        model_store.find_model(tmp_path)
    assert model_store.find_model(written) == written
    with pytest.raises(TLEError, match="no model here"):
        model_store.find_model(tmp_path / "nowhere")


def test_bad_folds_are_refused(tmp_path):
    with pytest.raises(TLEError, match="no fold"):
        model_store.write_models(tmp_path, name="m", folds=[], card=card())
    with pytest.raises(TLEError, match="not the components of the card"):
        model_store.write_models(tmp_path, name="m", folds=trained(), card=card(components=("multitask", "regional")))
    assert not list(tmp_path.glob(".*"))
