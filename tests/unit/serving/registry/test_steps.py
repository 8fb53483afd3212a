from __future__ import annotations

from farandole.serving.registry.steps import TraceStep, missing_step, present, utc


def test_gaps_are_found_at_any_depth() -> None:
    lost = missing_step("code", "code", "no repository")
    tree = TraceStep("model", "m", steps=(TraceStep("run", "r", steps=(lost, TraceStep("query", "q"))),))
    assert list(tree.gaps) == [lost]
    assert tree.find("query") == TraceStep("query", "q")
    assert tree.find("file") is None
    assert tree.to_dict()["steps"][0]["steps"][0] == {
        "kind": "code", "name": "code", "facts": {}, "missing": "no repository", "steps": [],
    }  # fmt: skip


def test_only_known_facts_are_present() -> None:
    assert present(a=None, b="", c=[], d=0, e="x") == {"d": 0, "e": "x"}
    assert utc(0) == "1970-01-01T00:00:00+00:00"
