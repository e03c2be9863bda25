"""Checks a configuration text against the table of keys and says of every mistake what to write instead."""

from typing import Any

from operations.configuration.likeness import nearest
from operations.configuration.mistakes import Mistake, Unfit
from operations.configuration.table import AtMost, Consistent, Different, Required, Rule, Table
from operations.configuration.toml_text import ParsedText, parse_text


def check_document(text: str, table: Table) -> tuple[dict[str, dict[str, Any]], tuple[Mistake, ...]]:
    """Every section's values with defaults filled in, and all mistakes in the order of their lines.

    A value with a mistake is left out.
    """
    parsed = parse_text(text, table.sample_place)
    mistakes = [*parsed.mistakes, *_unknown(parsed, table)]
    values: dict[str, dict[str, Any]] = {section: {} for section in table.sections}
    for key in table.keys:
        section = parsed.values.get(key.section, {})
        if not isinstance(section, dict):
            continue
        if key.name in section:
            try:
                values[key.section][key.name] = key.kind.check(key, section[key.name])
            except Unfit as unfit:
                mistakes.append(Mistake(_line(parsed, key.path), key.path, unfit.problem, unfit.remedy))
        elif not isinstance(key.default, Required):
            given = list(key.default) if isinstance(key.default, tuple) else key.default
            values[key.section][key.name] = key.kind.check(key, given)
        elif parsed.complete and key.path not in parsed.unreadable:
            remedy = f"write in [{key.section}]:  {key.line}"
            mistakes.append(Mistake(parsed.lines.get(key.section), key.path, "this key must be set", remedy))
    broken = (_broken(rule, values, parsed) for rule in table.rules)
    mistakes += [mistake for mistake in broken if mistake is not None]
    mistakes.sort(key=lambda mistake: (mistake.line is None, mistake.line or 0))
    return values, tuple(mistakes)


def _line(parsed: ParsedText, path: str) -> int | None:
    return parsed.lines.get(path, parsed.lines.get(path.partition(".")[0]))


def _unknown(parsed: ParsedText, table: Table) -> list[Mistake]:
    mistakes = []
    for section, content in parsed.values.items():
        if section not in table.sections:
            mistakes.append(_unknown_section(section, content, _line(parsed, section), table))
        elif not isinstance(content, dict):
            problem = "this is a section, not a key" if not isinstance(content, list) else "this section stands once"
            remedy = f"write [{section}] on a line of its own and its keys below"
            mistakes.append(Mistake(_line(parsed, section), section, problem, remedy))
        else:
            names = [key.name for key in table.keys_of(section)]
            for name in content:
                if name not in names:
                    path = f"{section}.{name}"
                    remedy = _nearest_key(section, name, table)
                    mistakes.append(Mistake(_line(parsed, path), path, "there is no such key", remedy))
    return mistakes


def _unknown_section(name: str, content: object, line: int | None, table: Table) -> Mistake:
    sections = ", ".join(f"[{section}]" for section in table.sections)
    if not isinstance(content, dict | list):
        homes = [key.section for key in table.keys if key.name == name]
        remedy = f"move it below [{homes[0]}]" if homes else f"every key stands below one of the sections: {sections}"
        return Mistake(line, name, "this key stands outside of any section", remedy)
    near = nearest(name, table.sections)
    remedy = f"did you mean [{near}]?" if near else f"the sections are: {sections}"
    return Mistake(line, name, "there is no such section", remedy)


def _nearest_key(section: str, name: str, table: Table) -> str:
    names = [key.name for key in table.keys_of(section)]
    elsewhere = [key.section for key in table.keys if key.name == name]
    if elsewhere:
        return f"move it below [{elsewhere[0]}]"
    near = nearest(name, names, likeness_min=0.5)
    return f"did you mean {near}?" if near else f"delete the line; the keys of [{section}] are: {', '.join(names)}"


def _broken(rule: Rule, values: dict[str, dict[str, Any]], parsed: ParsedText) -> Mistake | None:
    """What contradicts the rule; None when nothing does, or when one of the two values is a mistake already."""
    match rule:
        case AtMost(lower_path, upper_path):
            lower, upper = _value(values, lower_path), _value(values, upper_path)
            if lower is None or upper is None or lower <= upper:
                return None
            line = parsed.lines.get(lower_path, parsed.lines.get(upper_path))
            problem = f"{lower} is more than {upper_path}, which is {upper}"
            return Mistake(line, lower_path, problem, "lower this one or raise the other")
        case Different(one_path, other_path, problem, remedy):
            other = _value(values, other_path)
            if other is None or other != _value(values, one_path):
                return None
            return Mistake(parsed.lines.get(other_path, parsed.lines.get(one_path)), other_path, problem, remedy)
        case Consistent(told, check):
            unfit = check(values)
            return None if unfit is None else Mistake(_line(parsed, told), told, unfit.problem, unfit.remedy)


def _value(values: dict[str, dict[str, Any]], path: str) -> Any:
    section, _, name = path.partition(".")
    return values[section].get(name)
