from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from farandole.bundle.program import load_module, save_program
from farandole.errors import ModelError
from farandole.explaining import ExplainedModel, Explainer
from farandole.explaining.inputs import InputPoints
from farandole.explaining.model import ProgramNetwork
from farandole.shards import Schema
from tests.support.explained import BUILDERS, builder_model, features_of, made_model, raw_batch

CATEGORIES = {
    "colour": {"kind": "categorical"},
    "town": {"kind": "categorical", "encoding": "hash", "buckets": 16},
    "size": {"kind": "numeric"},
}


class Own(nn.Module):
    """A network as a user writes it, without a method that names its layers."""

    def __init__(self, schema: Schema, how: str) -> None:
        super().__init__()
        counts = schema.group("categorical").cardinalities
        self.how = how
        self.first, self.second = (nn.Embedding(count, 4) for count in counts)
        self.joint = nn.Embedding(sum(counts), 4)
        self.offset = counts[0]
        self.out = nn.Linear(5, 1)

    def forward(self, categorical: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        ids = categorical.long()
        if self.how == "embeddings":
            looked_up = self.first(ids[:, 0]) + self.second(ids[:, 1])
        elif self.how == "joint":
            looked_up = self.joint(ids + torch.tensor([0, self.offset])).sum(1)
        elif self.how == "shared":
            looked_up = self.joint(ids[:, 0]) + self.joint(ids[:, 1] + self.offset)
        elif self.how == "one ignored":
            looked_up = self.first(ids[:, 0])
        elif self.how == "also as numbers":
            looked_up = self.first(ids[:, 0]) + self.second(ids[:, 1]) * ids[:, 1:].float()
        elif self.how == "function":
            looked_up = self.first(ids[:, 0]) + F.embedding(ids[:, 1], self.second.weight)
        else:
            raise ValueError("not these ids")
        outputs: torch.Tensor = self.out(torch.cat([looked_up, dense], 1))
        return outputs


def own(schema: Schema, how: str) -> nn.Module:
    return Own(schema, how)


@pytest.mark.parametrize("how", ["embeddings", "joint", "one ignored"])
def test_embeddings_of_other_networks_are_found_by_what_they_receive(how: str) -> None:
    model = made_model(own, CATEGORIES, how=how)
    found = Explainer(model).explain(raw_batch(model, 8))
    assert max(abs(each.delta) for each in found) < 1e-5
    assert any(each.columns["colour"] for each in found)
    assert any(each.columns["town"] for each in found) == (how != "one ignored")


def test_a_joint_embedding_gives_the_same_as_single_ones() -> None:
    single, joint = (made_model(own, CATEGORIES, how=how) for how in ("embeddings", "joint"))
    own_network, joint_network = single.network, joint.network
    assert isinstance(own_network, Own)
    assert isinstance(joint_network, Own)
    joint_network.load_state_dict(own_network.state_dict())
    with torch.no_grad():
        joint_network.joint.weight.copy_(torch.cat([own_network.first.weight, own_network.second.weight]))
    features = features_of(single, 6)
    for one, other in zip(
        Explainer(single).explain_features(features), Explainer(joint).explain_features(features), strict=True
    ):
        assert one.columns == pytest.approx(other.columns, abs=1e-6)


@pytest.mark.parametrize("how", ["function", "also as numbers"])
def test_ids_that_cannot_be_followed_are_an_error(how: str) -> None:
    with pytest.raises(ModelError, match=r"network:build: the ids of town \(group categorical\) reach the outputs"):
        Explainer(made_model(own, CATEGORIES, how=how))


def test_an_embedding_that_is_called_twice_is_an_error() -> None:
    with pytest.raises(ModelError, match="is called 2 times for a batch"):
        Explainer(made_model(own, CATEGORIES, how="shared"))


def test_a_network_that_raises_is_an_error() -> None:
    with pytest.raises(ModelError, match="raised ValueError: not these ids for random rows"):
        Explainer(made_model(own, CATEGORIES, how="none"))


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_builder_names_the_layers_of_its_ids(builder: str) -> None:
    model = builder_model(builder)
    groups = {group.name for group in model.schema.groups if group.kind in ("ids", "tokens")}
    assert {point.group for point in InputPoints(model).points} == groups


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_is_explained_like_its_network(tmp_path: Path) -> None:
    model = builder_model("fusion")
    save_program(model.network, features_of(model, 1), tmp_path / "network.pt2")
    masks = frozenset(group.name for group in model.schema.groups if group.kind == "mask")
    program = ExplainedModel(
        ProgramNetwork(load_module(tmp_path / "network.pt2"), masks), model.preprocessing, model.statistics
    )
    batch = raw_batch(model, 3)
    for eager, exported in zip(Explainer(model).explain(batch), Explainer(program).explain(batch), strict=True):
        assert exported.columns == pytest.approx(eager.columns, rel=1e-4, abs=1e-6)
