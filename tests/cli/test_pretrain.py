"""`shoestring pretrain`: what it writes, that a function and the command are one, and one line for what cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shoestring.cli.pretrain import _shown, pretrain
from shoestring.core.errors import BadInput

Run = Callable[..., Any]
SMALL = {"encoder": {"dim": 24, "depth": 1, "heads": 3, "patches": 8, "neighbours": 6}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A .npz of 12 clouds of two kinds, the first three without a label."""
    points = np.random.default_rng(0).standard_normal((12, 90, 3))
    points[1::2] *= [1.0, 0.1, 1.0]
    label = np.arange(12) % 2
    label[:3] = -1
    path = tmp_path / "clouds.npz"
    np.savez(path, points=points.astype(np.float16), label=label, classes=np.array(["ball", "disc"]))
    return path


def test_an_encoder_is_written(shoestring: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.safetensors"
    files = ("--json", tmp_path / "told.json", "--html", tmp_path / "one.html")
    how = ("--objective", "point_mae", "--epochs", 2, "--batch", 4, "--points", 64, "--every", 1)
    ran = shoestring("pretrain", "point_vit", "--data", folder, "--probe", folder, "--out", out, *how, *files)
    assert ran.code == 0, ran.err
    assert "point_vit learned from 12 clouds without labels (Point-MAE, 2 epochs)" in ran.out
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["source"] == "clouds.npz"
    assert told["data"]["clouds"] == 12
    assert [set(row) for row in told["log"]] == [{"epoch", "loss", "probe", "rank"}] * 2
    assert json.loads(out.with_suffix(".json").read_text())["log"] == told["log"]
    page = (tmp_path / "one.html").read_text()
    assert "<svg" in page
    assert page.count('src="data:image/png') == 3
    assert "over untrained" in page
    assert "all labels" in ran.out and "nearest neighbours" in ran.out
    rows = {(row["name"], row["protocol"]): row for row in told["evaluation"]["rows"]}
    assert {name for name, _ in rows} == {"untrained", "forest", "one"}
    assert rows["one", "all labels"]["n"] == 12  # the smaller class has four: four folds, three times
    assert rows["one", "over forest"]["unit"] == "pt"
    again = pretrain(
        "point_vit", data=folder, objective="point_mae", epochs=2, batch=4, points=64, out=tmp_path / "two.safetensors"
    )
    assert again.path.read_bytes() == out.read_bytes()


def test_pictures_and_symmetry_reach_the_objective(folder: Path, tmp_path: Path) -> None:
    icons = tmp_path / "icons"
    icons.mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 20 * number).save(icons / f"{number:03}.png")
    how: dict[str, Any] = {"data": folder, "epochs": 1, "batch": 4, "points": 40, "out": tmp_path / "one.safetensors"}
    done = pretrain(objective="cross_modal", pictures=icons, symmetry="frames", rotate="so3", **how, **SMALL)
    assert "pictures" in done.about["data"]
    assert done.about["look"] | {"symmetry": "frames", "rotate": "so3", "crop": 0.7, "up": "y"} == done.about["look"]


def box(x: float, y: float, z: float) -> str:
    """A Wavefront file: the eight corners and six sides."""
    corners = [(x * (i & 1), y * (i >> 1 & 1), z * (i >> 2)) for i in range(8)]
    sides = ("1 2 4 3", "5 6 8 7", "1 2 6 5", "3 4 8 7", "1 3 7 5", "2 4 8 6")
    return "".join([f"v {a} {b} {c}\n" for a, b, c in corners] + [f"f {side}\n" for side in sides])


@pytest.mark.filterwarnings("default")
def test_meshes_are_sampled_and_several_sets_are_one(shoestring: Run, folder: Path, tmp_path: Path) -> None:
    """Points on surfaces, at any depth, copies and what is one point left out; beside the clouds of a file."""
    meshes = tmp_path / "package" / "meshes"
    (meshes / "deep").mkdir(parents=True)
    for number in range(4):
        (meshes / "deep" / f"{number}.obj").write_text(box(1, 2 + number, 3))
    (meshes / "copy.obj").write_text(box(1, 2, 3))
    (meshes / "point.obj").write_text(box(0, 0, 0))
    (meshes / "broken.obj").write_text("f 1 2 3\n")
    out = tmp_path / "one.safetensors"
    how = ("--objective", "point_mae", "--epochs", 0.1, "--batch", 4, "--points", 64, "--out", out)
    ran = shoestring("pretrain", "point_vit", "--data", tmp_path / "package", "--data", folder, *how)
    assert ran.code == 0, ran.err
    assert "left out 1 of 7 clouds that cannot be read (the first is meshes/broken.obj)" in ran.err
    assert "left out 2 of 18 clouds, 1 without extent and 1 that are there already" in ran.err
    told = json.loads(out.with_suffix(".json").read_text())
    assert (told["source"], told["data"]["clouds"]) == ("package, clouds.npz", 16)
    with pytest.raises(BadInput, match="pictures: are of the clouds of one --data, not of 2; give one"):
        pretrain(data=[folder, meshes], objective="cross_modal", pictures=tmp_path, out=out)


def test_what_turns_along_is_judged_by_it(shoestring: Run, folder: Path, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "told.json", "--out", tmp_path / "one.safetensors")
    how = ("--objective", "equivariant", "--epochs", 0.1, "--batch", 4, "--points", 96, "--protocols", "invariance")
    ran = shoestring("pretrain", "point_vit", "--data", folder, "--probe", folder, *files, *how)
    assert ran.code == 0, ran.err
    assert "contrast and equivariance" in ran.out
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["look"]["crop"] == 0.7
    rows = {(row["name"], row["protocol"]) for row in told["evaluation"]["rows"]}
    assert {("one", "equivariance error, z"), ("untrained", "equivariance error, SO3")} <= rows


def test_made_shapes_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.points import demo

    few = demo.demo_shapes(1, 80)
    monkeypatch.setattr(demo, "demo_shapes", lambda: few)
    how: dict[str, Any] = {"epochs": 0.1, "batch": 4, "points": 40, "out": tmp_path / "one.safetensors"}
    done = pretrain(demo=True, objective="point_mae", **how, **SMALL)
    assert done.about["source"] == "demo"
    assert done.about["data"]["clouds"] == 12


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("point_vit",), "give either --data DIR or --demo"),
        (("alexnet", "--data", "{data}"), "model: 'alexnet' is not known"),
        (("point_vit", "--data", "{data}", "--objective", "x"), "objective: 'x' is not known; write one of point_mae"),
        (
            ("point_vit", "--data", "{data}", "--rotate", "all"),
            "rotate: 'all' is not known; write one of none, up, so3",
        ),
        (("point_vit", "--data", "{data}", "--points", 16), "are fewer than 64"),
        (("point_vit", "--data", "absent"), "absent does not exist"),
        (("point_vit", "--data", "{data}", "--out", "one.pt"), "one.pt is not the name of one; write NAME.safetensors"),
        (
            ("point_vit", "--data", "{data}", "--pictures", "absent", "--objective", "cross_modal"),
            "give a folder with 12",
        ),
        (("point_vit", "--data", "{data}", "--lr", 0), "lr: 0.0 does not do"),
        (
            ("point_vit", "--data", "{data}", "--objective", "equivariant", "--rotate", "none"),
            "equivariant: with --rotate none no turn is there to be told; write --rotate up or so3",
        ),
        (
            ("point_vit", "--data", "{data}", "--objective", "equivariant", "--symmetry", "frames", "--points", 80),
            "and no turn is left to be told; write --symmetry none",
        ),
        (
            ("point_vit", "--data", "{data}", "--protocols", "svm"),
            "protocols: 'svm' will not do; write all, or some of",
        ),
        (
            ("point_vit", "--data", "{data}", "--probe", "{data}", "--protocols", "few-shot"),
            "few-shot: 0 classes have more than 10 items",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    shoestring: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = shoestring("pretrain", *(folder if option == "{data}" else option for option in options))
    assert ran.code == 2
    assert told in ran.said


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    """A split of ShapeNetPart in its form: 16 shapes of two categories, whose upper and lower half are parts."""
    rng, root = np.random.default_rng(0), tmp_path / "shapenet"
    (root / "train_test_split").mkdir(parents=True)
    (root / "synsetoffset2category.txt").write_text("Cap\t02954340\nMug\t03797390\n")
    listed = []
    for folder, first, flat in (("02954340", 6, 0.3), ("03797390", 36, 1.0)):
        (root / folder).mkdir()
        for number in range(8):
            xyz = rng.normal(size=(90, 3)) * (1, flat, 1)
            table = np.column_stack([xyz, np.zeros((90, 3)), first + (xyz[:, 1] > 0)])
            np.savetxt(root / folder / f"{number}.txt", table, "%.6f")
            listed.append(f"shape_data/{folder}/{number}")
    (root / "train_test_split" / "shuffled_train_file_list.json").write_text(json.dumps(listed))
    return root


def test_segmentation_of_parts(shoestring: Run, shapenet: Path, tmp_path: Path) -> None:
    how = ("--objective", "point_mae", "--epochs", 1, "--batch", 8, "--points", 64, "--every", 1)
    files = ("--out", tmp_path / "one.safetensors", "--json", tmp_path / "told.json", "--html", tmp_path / "one.html")
    data = ("--data", shapenet / "train", "--probe", shapenet / "train", "--protocols", "segmentation")
    ran = shoestring("pretrain", "point_vit", *data, *how, *files)
    assert ran.code == 0, ran.err
    assert "16 shapes of 2 categories, 4 parts" in ran.out
    told = json.loads((tmp_path / "told.json").read_text())
    assert "probe" in told["log"][0]  # categories are looked at on the way
    rows = {(row["name"], row["protocol"]): row for row in told["evaluation"]["rows"]}
    for name in ("untrained", "forest", "one"):
        assert 0 < rows[name, "part mIoU"]["mean"] <= 100
        assert rows[name, "part mIoU"]["n"] == 15
    assert rows["forest", "part mIoU"]["mean"] > 80  # height is one of its features
    assert rows["one", "part mIoU over forest"]["unit"] == "pt"
    assert "Part mIoU" in (tmp_path / "one.html").read_text()


def test_segmentation_of_scenes(folder: Path, tmp_path: Path) -> None:
    """No cloud has a class: nothing to see on the way, and `all` is what can be asked."""
    points = np.random.default_rng(0).standard_normal((10, 60, 3))
    np.savez(tmp_path / "scenes.npz", points=points, parts=(points[..., 1] > 0).astype(np.int8))
    how: dict[str, Any] = {"data": folder, "epochs": 1, "batch": 4, "points": 40, "out": tmp_path / "one.safetensors"}
    done = pretrain(objective="point_mae", probe=tmp_path / "scenes.npz", protocols="all", **how, **SMALL)
    assert done.evaluation is not None
    assert set(done.evaluation.protocols) >= {"invariance error", "scene mIoU", "scene mIoU over untrained"}
    assert not {"all labels", "part mIoU"} & set(done.evaluation.protocols)
    assert "probe" not in done.about["log"][0]


def test_classes_of_points_are_asked_for(shoestring: Run, folder: Path, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "scenes.npz",
        points=np.random.default_rng(0).standard_normal((4, 60, 3)),
        parts=np.eye(4, 60, dtype=int),
    )
    how = ("--data", folder, "--points", 64, "--out", tmp_path / "one.safetensors", "--protocols")
    for probe, protocols, said in (
        (folder, "segmentation", "segmentation needs a class for each point; give ROOT/train of ShapeNetPart"),
        (tmp_path / "scenes.npz", "linear,segmentation", "the data have classes of points only, not for linear"),
    ):
        ran = shoestring("pretrain", "point_vit", *how, protocols, "--probe", probe)
        assert ran.code == 2
        assert said in ran.said


def test_pictures_are_of_what_was_judged(folder: Path, tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy", reason="needs shoestring[points]")
    data = laspy.create(point_format=3, file_version="1.2")
    data.header.scales = [0.001] * 3
    data.xyz = np.random.default_rng(0).uniform(size=(900, 3)) * (30, 20, 5)
    data.classification = np.arange(900) % 2 + 1
    data.write(tmp_path / "plot.las")
    assert _shown(tmp_path / "plot.las", folder, False, 64).shape == (4, 64, 3)  # its tiles
    assert len(_shown(folder, None, True, 64)) == 12
    assert len(_shown(None, folder, False, 64)) == 12
