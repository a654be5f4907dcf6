"""Alert rules, the dashboard and docs/monitoring.md name only metrics that exist.

`make docs` runs this file as a program, which writes the tables.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from appliance import config
from appliance.health import CODES, SEVERITIES
from appliance.metrics import PREFIX, Metrics
from tests.web.world import until, world

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "packaging" / "monitoring" / "alerts.yaml"
DASHBOARD = ROOT / "packaging" / "monitoring" / "grafana.json"
PAGE = ROOT / "docs" / "monitoring.md"

WORDS = {
    *("sum", "min", "max", "count", "by", "without", "and", "or", "unless", "on", "ignoring"),
    *("rate", "increase", "histogram_quantile", "min_over_time", "label_values"),
}
# Labels that Prometheus adds to every sample, and metrics of every target that it scrapes.
OF_PROMETHEUS = {"instance", "job"}
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "info": ("_info",),
    "histogram": ("_bucket", "_sum", "_count"),
    "unknown": ("",),
}


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """The place of each expression, and the expression."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"]


ALWAYS_KNOWN = {"code": set(CODES), "severity": set(SEVERITIES)}
"""Values of labels that need not be exported at present."""


class Names:
    """The metrics of a running program."""

    def __init__(self, text: str) -> None:
        declared = {metric.name.removesuffix("_info"): set(metric.labels) for metric in Metrics().described()}
        self.labels: dict[str, set[str]] = {"up": set()}
        self.values: dict[tuple[str, str], set[str]] = {}
        for family in parse(text):
            labels = declared.get(family.name, declared.get(f"{family.name}_total", set()))
            for suffix in SUFFIXES[family.type]:
                name = family.name if suffix and family.name.endswith(suffix) else family.name + suffix
                self.labels[name] = labels | ({"le"} if suffix == "_bucket" else set())
            for sample in family.samples:
                self.labels[sample.name] = self.labels.get(sample.name, set()) | set(sample.labels)
                for label, value in sample.labels.items():
                    self.values.setdefault((sample.name, label), set()).add(value)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    async def read() -> str:
        async with world(tmp_path_factory.mktemp("world")) as w:
            await until(lambda: w.node.upkeep.space)
            async with w.client.get(f"{w.url}/metrics") as answer:
                return await answer.text()

    return Names(asyncio.run(read()))


def wrong_in(expression: str, names: Names) -> list[str]:
    """The names in an expression that the program does not export, or why it is not valid."""
    bare = re.sub(r"\[\d+[smh]\]", "", expression)
    wrong = wrong_matchers(bare, names)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    grouped = [label for labels in re.findall(r"\bby \(([^)]*)\)", bare) for label in re.split(r"\s*,\s*", labels)]
    bare = re.sub(r"\bby \([^)]*\)", "", bare)
    if "label_values" in bare:
        bare, grouped = re.sub(r", (\w+)\)", ")", bare), re.findall(r", (\w+)\)", bare)
    words = re.findall(r"(?<![\w.])[a-zA-Z_]\w*", bare)
    used = [word for word in words if word in names.labels]
    wrong += [f"there is no metric {word}" for word in words if word not in names.labels and word not in WORDS]
    if not used:
        wrong.append("it names no metric")
    for label in grouped:
        if not any(label in names.labels[name] | OF_PROMETHEUS for name in used):
            wrong.append(f"no metric in it has the label {label}")
    if "histogram_quantile" in bare and not ("le" in grouped and all(name.endswith("_bucket") for name in used)):
        wrong.append("a quantile needs buckets by le")
    if any(expression.count(opening) != expression.count(closing) for opening, closing in ("()", "{}", "[]")):
        wrong.append("its brackets do not match")
    return wrong


def wrong_matchers(bare: str, names: Names) -> list[str]:
    """The labels in the braces of an expression that the program does not export, or not with these values."""
    wrong = []
    for name, matchers in re.findall(r"\b([a-z_:][\w:]*)\{([^}]*)\}", bare):
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers):
            if label not in names.labels.get(name, set()) | OF_PROMETHEUS:
                wrong.append(f"{name} has no label {label}")
            elif label not in OF_PROMETHEUS and not value.startswith("$"):
                known = names.values.get((name, label), set()) | ALWAYS_KNOWN.get(label, set())
                parts = value.split("|") if "~" in operator else [value]
                wrong += [f"{name} has no {label} {part}" for part in parts if part not in known]
        if not re.fullmatch(r'(\s*\w+\s*(=~|!~|!=|=)\s*"[^"]*"\s*,?)*', matchers):
            wrong.append(f"{{{matchers}}} are no matchers")
    return wrong


class TestExpressions:
    def test_there_are_some(self) -> None:
        assert len(list(expressions())) > 60

    @pytest.mark.parametrize(("place", "expression"), list(expressions()))
    def test_each_names_what_the_program_exports(self, names: Names, place: str, expression: str) -> None:
        assert wrong_in(expression, names) == []

    @pytest.mark.parametrize(
        "expression",
        [
            "classroom_observer_nonsense > 0",
            "rate(classroom_observer_commits[5m])",
            'classroom_observer_commits_total{code="x"}',
            'classroom_observer_findings{code="no.such"}',
            'classroom_observer_findings{severity=~"error|bad"}',
            "sum by (reducer) (classroom_observer_commits_total)",
            "histogram_quantile(0.9, sum by (instance) (rate(classroom_observer_commit_seconds_bucket[5m])))",
            "sum(classroom_observer_commits_total",
            "avg(1)",
        ],
    )
    def test_what_is_wrong_is_found(self, names: Names, expression: str) -> None:
        assert wrong_in(expression, names) != []


class TestAlerts:
    def test_each_says_how_bad_it_is_and_what_to_do(self) -> None:
        seen = set()
        for rule in rules():
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert re.fullmatch(r"ClassroomObserver[A-Z]\w+", rule["alert"])
            assert rule["labels"]["severity"] in SEVERITIES
            assert rule["annotations"]["description"].endswith(".")
            assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))
            seen.add(rule["alert"])
        assert len(seen) == len(rules())

    def test_what_it_says_comes_from_labels_that_the_expression_keeps(self) -> None:
        for rule in rules():
            said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
            grouped = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
            for labels in grouped:
                assert said <= set(re.split(r"\s*,\s*", labels)), rule["alert"]
            if not grouped:
                assert said <= OF_PROMETHEUS, rule["alert"]


class TestDashboard:
    def test_panels_do_not_overlap_and_have_titles(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in dashboard()["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken
            assert max(x for x, _ in cells) < 24
            taken |= cells
            assert panel["title"]
        ids = [panel["id"] for panel in dashboard()["panels"]]
        assert len(ids) == len(set(ids))

    def test_every_metric_of_ours_that_a_histogram_is_shows_somewhere(self) -> None:
        shown = " ".join(expression for _, expression in expressions())
        for metric in Metrics().described():
            if metric.type == "histogram":
                assert f"{metric.name}_bucket" in shown


def tables() -> dict[str, str]:
    """The tables of the page, by the name of their place in it."""
    metrics = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in Metrics().described():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        metrics.append(f"| `{metric.name.removeprefix(PREFIX)}` | {metric.type} | {labels} | {metric.help} |")
    alerts = ["| alert | severity | when |", "|---|---|---|"]
    for rule in rules():
        expression = rule["expr"].replace("|", "\\|")
        lasting = f" for {rule['for']}" if "for" in rule else ""
        alerts.append(f"| {rule['alert']} | {rule['labels']['severity']} | `{expression}`{lasting} |")
    prefix = f"All names begin with `{PREFIX}`.\n\n"
    return {"metrics": prefix + "\n".join(metrics), "alerts": "\n".join(alerts)}


def written(page: str) -> str:
    """The page with its tables as they should be."""
    for name, table in tables().items():
        place = rf"(?s)(<!-- {name}: begin [^\n]*-->\n).*?(<!-- {name}: end -->)"
        assert re.search(place, page)
        page = re.sub(place, lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", page)  # type: ignore[misc]
    return page


class TestPage:
    def test_its_tables_are_current(self) -> None:
        page = PAGE.read_text(encoding="utf-8")
        assert page == written(page), "run `make docs`"

    def test_its_configuration_is_valid(self, tmp_path: Path) -> None:
        [example] = re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
        (tmp_path / "config.toml").write_text(example)
        assert config.load(tmp_path / "config.toml", {}, {}).metrics.token

    def test_its_scrape_configuration_has_the_job_that_the_rules_name(self) -> None:
        [example] = re.findall(r"(?ms)^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
        [scrape] = yaml.safe_load(example)["scrape_configs"]
        for _, expression in expressions():
            assert set(re.findall(r'job="([^"]*)"', expression)) <= {scrape["job_name"]}


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
