"""The report as one self-contained page: no network, no scripts, no fonts; readable on a phone, in the light and in the
dark, and by a screen reader.

Every name comes from a stranger's file and is escaped. The page's Content-Security-Policy allows its own style sheet by
hash and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from isomorph.validators.distribution import AGREE, DIFFER
from isomorph.validators.reports.charts import histogram, trace
from isomorph.validators.reports.lessons import Lesson, lessons, named
from isomorph.validators.reports.prose import clean, culprits, number, runtime, setting, title, worst_ratio

__all__ = ["render"]

Content = Mapping[str, Any]

_STATISTICS = ("element", "overall", "joint")
_LEADS = {
    "EQUIVALENT": "The target is as exact as rounding allows, on inputs that would show a difference.",
    "DIFFERENT": "The target computes something else: the difference is larger than any order of summation explains.",
    "INCONCLUSIVE": "Neither equality nor a difference is proven. The reasons are below.",
}


def render(content: Content) -> str:
    """An HTML document; text in UTF-8, the same bytes for the same report."""
    style = files("isomorph.validators.reports").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    sections = (_reasons, _outputs, _training, _layers, _inputs, _environment, _replay)
    head = (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_e(content['verdict'])}: {_e(title(content))}</title>\n<style>{style}</style>"
    )
    body = "\n".join(text for section in sections if (text := section(content)))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{_header(content)}\n'
        f"<main>\n{body}\n</main>\n{_footer(content)}\n</body>\n</html>\n"
    )


def _e(value: Any) -> str:
    """Text of a stranger, for HTML: escaped, without control characters."""
    return escape(clean(str(value)))


def _header(content: Content) -> str:
    verdict, declared = content["verdict"], content["precision"]
    within = f" <small>within {_e(declared['name'])}</small>" if declared else ""
    return (
        '<header>\n<p class="brand">isomorph · verdict</p>\n'
        f'<h1 class="{_e(verdict)}">{_e(verdict)}{within}</h1>\n<p class="lead">{_e(_LEADS.get(verdict, ""))}</p>\n'
        f'<p class="pair"><code>{_e(content["source"]["model"])}</code> '
        f'<span aria-label="against">→</span> <code>{_e(content["target"]["model"])}</code></p>\n</header>'
    )


def _section(name: str, heading: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{body}\n</section>'


def _reasons(content: Content) -> str:
    ratios = [ratio for output in content["outputs"] if (ratio := worst_ratio(output)) is not None]
    facts = {
        "worst ratio of outputs": number(max(ratios, default=None)),
        **_of_training(content),
        "equal up to": number(content["thresholds"]["equal"]),
        "different from": number(content["thresholds"]["unequal"]),
        "cases": str(len(content["cases"])),
        "seed": str(content["seed"]),
        "judged in": f"{content['seconds']:.1f} s",
    }
    reasons = "".join(f"<li>{_e(reason)}</li>" for reason in content["reasons"])
    maps = "".join(f"<li>the two agree if they are paired by <code>--map {_e(m)}</code></li>" for m in content["maps"])
    listed = f'<ul class="reasons">{reasons}{maps}</ul>\n' if reasons or maps else ""
    told = "".join(f"<div><dt>{name}</dt><dd>{_e(value)}</dd></div>" for name, value in facts.items())
    notes = "".join(f"<li>{_e(note)}</li>" for note in content["notes"])
    count = len(content["notes"])
    told_of = f"<summary>{count} note{'s' if count > 1 else ''}</summary>"
    noted = f"<details>{told_of}<ul>{notes}</ul></details>" if notes else ""
    return _section("why", "Why" if listed else "In short", f'{listed}<dl class="facts">{told}</dl>\n{noted}')


def _of_training(content: Content) -> dict[str, str]:
    training = content["training"]
    return {"worst ratio of training": number(training["worst"]["ratio"])} if training and training["worst"] else {}


def _outputs(content: Content) -> str:
    articles = "\n".join(_output(content, output) for output in content["outputs"])
    if not articles:
        return ""
    return _section("outputs", "Outputs", f'<div class="outputs">\n{articles}\n</div>')


def _output(content: Content, output: Content) -> str:
    verdict = output.get("verdict")
    name = _e(output["source"])
    renamed = "" if output["source"] == output["target"] else f" <span class=dim>→ {_e(output['target'])}</span>"
    chip = (
        f'<span class="chip {_e(verdict)}">{_e(verdict)}</span>'
        if verdict
        else '<span class="chip">not compared</span>'
    )
    parts = [f'<div class="head"><h3><code>{name}</code>{renamed}</h3>{chip}</div>']
    if (ratio := worst_ratio(output)) is not None:
        parts.append(f'<p class="dim">worst ratio {number(ratio)} of the budget{_worst(output)}</p>')
    parts += _drawn(content, output)
    if output.get("draws"):
        parts.append(_distribution(output))
    if output.get("cases"):
        parts.append(f"<details><summary>every case</summary>{_cases(output)}</details>")
    return f"<article>{''.join(parts)}</article>"


def _distribution(output: Content) -> str:
    """Of an output that depends on random numbers: how far apart its distributions are."""
    names = ("case", "draws", *_STATISTICS)
    rows = [
        (_e(each["case"]), str(each["draws"]), *(number(each["z"].get(name)) for name in _STATISTICS))
        for each in output["draws"]
    ]
    told = f"Distance of the distributions in standard deviations; up to {AGREE:g} is chance, {DIFFER:g} a difference"
    return _table(told, names, rows, numeric=(1, 2, 3, 4), narrow=True)


def _worst(output: Content) -> str:
    worst = output.get("worst")
    if not worst or not worst["index"]:
        return ""
    got, expected = number(worst["got"]), number(worst["expected"])
    place = ", ".join(str(i) for i in worst["index"])
    return f"; at [{place}] got {_e(got)}, expected {_e(expected)} ({_e(worst['case'])})"


def _drawn(content: Content, output: Content) -> Iterator[str]:
    """The histogram of all cases together; integers have none."""
    spreads = [case["errors"] for case in output.get("cases", ()) if case.get("errors")]
    if not spreads:
        return
    target, source = (
        [sum(column) for column in zip(*(each[key] for each in spreads), strict=True)]
        for key in ("histogram", "source_histogram")
    )
    limits = (content["thresholds"]["equal"], content["thresholds"]["unequal"])
    drawing = histogram(target, source, content["histogram_edges"], limits, clean(output["source"]))
    caption = "Bars: the target's errors against the float64 run. Dashed: the source's own. Counts are logarithmic."
    yield f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _cases(output: Content) -> str:
    rows = [
        (
            _e(case["case"]),
            number(max((float(ratio) for ratio in case["ratios"].values()), default=None)),
            number(case["error"]),
            number(case["source_error"]),
            number(case["tolerance"]),
            "yes" if case["informative"] else "no",
            _e(case["mask"] or "–"),
        )
        for case in output["cases"]
    ]
    names = ("case", "ratio", "error", "source's error", "budget", "informative", "NaN, Inf")
    return _table(f"Cases of output {_e(output['source'])}; errors are relative RMS", names, rows, numeric=(1, 2, 3, 4))


def _table(
    caption: str,
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    narrow: bool = False,
) -> str:
    """Cells are HTML already. `narrow`: it fits on a phone, others are scrolled there."""

    def kind(index: int) -> str:
        return ' class="n"' if index in numeric else ""

    head = "".join(f'<th scope="col"{kind(i)}>{name}</th>' for i, name in enumerate(names))
    body = "".join(f"<tr>{''.join(f'<td{kind(i)}>{cell}</td>' for i, cell in enumerate(row))}</tr>" for row in rows)
    opening = '<table class="narrow">' if narrow else "<table>"
    table = f"{opening}<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">{table}</div>'


def _layers(content: Content) -> str:
    layers, found = content["layers"], content.get("culprit")
    blamed = "".join(_culprit(each) for each in culprits(content))
    body = f'<ol class="culprits">{blamed}</ol>' if blamed else ""
    if found and found["note"]:
        body += f'<p class="dim">{_e(found["note"])}</p>'
    if layers:
        limits = (content["thresholds"]["equal"], content["thresholds"]["unequal"])
        caption = (
            "Error over budget of each value that both models have. A diamond is an operation that makes an error."
        )
        drawing = trace(layers, limits)
        body += (
            f'<figure><div class="scroll" role="region" tabindex="0" aria-label="errors along the graph">'
            f"{drawing}</div>"
            f"<figcaption>{caption}</figcaption></figure>"
            f"<details><summary>all {len(layers)} values</summary>{_layer_table(layers)}</details>"
        )
    return _section("graph", "Along the graph", body) if body else ""


def _culprit(found: Content) -> str:
    where = f"{found['file']}:{found['line']}" if found["file"] else found["where"]
    path = f"{found['path']} ({found['cls']})" if found["cls"] else found["path"]
    code = f"<p><code>{_e(found['code'])}</code></p>" if found["code"] else ""
    place = " · ".join(_e(part) for part in (path, where) if part and part != found["target"])
    return (
        f"<li><strong>{_e(found['op'])}</strong> <code>{_e(found['target'])}</code>: "
        f"{number(found['ratio'])} times its budget{f'<p>{place}</p>' if place else ''}{code}</li>"
    )


def _layer_table(layers: Sequence[Content]) -> str:
    rows = [
        (
            f"{_e(layer['op'])} <code>{_e(layer['target'])}</code>",
            number(layer["ratio"]),
            number(layer["generated"]),
            f'<span class="chip {_e(layer["state"])}">{_e(layer["state"])}</span>',
            _e(layer["path"]),
            _e(f"{layer['file']}:{layer['line']}" if layer["file"] else "–"),
        )
        for layer in layers
    ]
    names = ("operation", "ratio", "by itself", "state", "module", "line")
    return _table("Values in the order of the graph", names, rows, numeric=(1, 2))


def _training(content: Content) -> str:
    """The kinds of quantities, the worst of each, and all of them."""
    found = content["training"]
    if not found:
        return ""
    listed = lessons(content)
    quantities = [quantity for lesson in listed for quantity in lesson.quantities]
    agree = sum(lesson.agree for lesson in listed)
    chip = f'<span class="chip {_e(found["verdict"])}">{_e(found["verdict"])}</span>'
    count = found["steps"]
    head = (
        f'<div class="head"><h3>{count} step{"s" if count > 1 else ""}, {agree} of {len(quantities)} quantities agree'
        f"</h3>{chip}</div>"
    )
    if not quantities:  # the reasons, as all others, stand at the top
        return _section("training", "Training", head)
    names = ("quantity", "worst ratio", "where", "agree")
    kinds = _table(
        "The worst of each kind of quantity; a ratio is error over budget",
        names,
        [_lesson(lesson) for lesson in listed],
        numeric=(1,),
        narrow=True,
    )
    rows = [_quantity(quantity) for quantity in quantities]
    all_names = ("quantity", "weight", "ratio", "error", "source's error", "verdict", "case")
    whole = _table(
        "Every quantity; errors are relative RMS against the float64 run", all_names, rows, numeric=(2, 3, 4)
    )
    every = f"<details><summary>all {len(quantities)} quantities</summary>{whole}</details>"
    return _section("training", "Training", head + kinds + every)


def _lesson(lesson: Lesson) -> tuple[str, ...]:
    worst = lesson.worst
    name = named(worst, "→")
    place = f"<code>{_e(name)}</code>" if name else ""
    where = " · ".join(part for part in (place, _e(worst["case"])) if part)
    explained = f'<p class="dim">{_e(worst["explanation"])}</p>' if worst["explanation"] else ""
    state = f'<span class="chip {_e(lesson.verdict)}">{lesson.agree} of {len(lesson.quantities)}</span>'
    return _e(lesson.what), number(worst["ratio"]), where + explained, state


def _quantity(quantity: Content) -> tuple[str, ...]:
    return (
        _e(quantity["what"]),
        f"<code>{_e(named(quantity, '→') or '–')}</code>",
        number(quantity["ratio"]),
        number(quantity["error"]),
        number(quantity["source_error"]),
        f'<span class="chip {_e(quantity["verdict"])}">{_e(quantity["verdict"])}</span>',
        _e(quantity["case"] or "–"),
    )


def _inputs(content: Content) -> str:
    rows = [
        (
            _e(tried["case"]),
            f"<code>{_e(entry['name'])}</code>",
            _e(f"{entry['dtype']} {entry['shape']}"),
            f"{number(entry['min'])} … {number(entry['max'])}",
            f'<span class="mono">{_e(entry["sha256"][:12])}</span>',
        )
        for tried in content["families"]
        for entry in tried["inputs"]
    ]
    if not rows:
        return ""
    names = ("case", "input", "type", "range", "SHA-256")
    families = sorted({tried["family"] for tried in content["families"]})
    body = f'<p class="dim">{_e(", ".join(families))}</p>' + _table("Inputs of each case", names, rows)
    return _section("inputs", "Input families", body)


def _environment(content: Content) -> str:
    sides = "".join(
        f"<div><h3>{name}: {_e(runtime(content[name]))}</h3><dl>"
        + "".join(
            f"<dt>{_e(key)}</dt><dd>{_e(setting(key, value))}</dd>"
            for key, value in content[name]["environment"].items()
        )
        + "</dl></div>"
        for name in ("source", "target")
    )
    judge = "".join(f"<dt>{_e(key)}</dt><dd>{_e(value)}</dd>" for key, value in content["judge"].items())
    return _section(
        "environment", "Environment", f'<div class="sides">{sides}<div><h3>judge</h3><dl>{judge}</dl></div></div>'
    )


def _replay(content: Content) -> str:
    if not content.get("replay"):
        return ""
    return _section(
        "replay", "Replay", f"<p>The same inputs, the same verdict:</p>\n<pre>{_e(content['replay'])}</pre>"
    )


def _footer(content: Content) -> str:
    made = f"isomorph {_e(content['judge']['isomorph'])}"
    return f"<footer><p>Made by {made}. This page is self-contained: it loads nothing and runs nothing.</p></footer>"
