"""PTX as a list of operations."""

import re
from typing import NamedTuple

WIDTHS = {"pred": 1, "b8": 8, "b16": 16, "b32": 32, "b64": 64, "f16": 16, "f32": 32, "f64": 64, "u64": 64, "u32": 32, "s32": 32}
STATEMENT = re.compile(r"\s*(?:(//[^\n]*\n)|([{}])|([\w$%]+):(?!:)|([^;]*);)")
SHARED = re.compile(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\];")
ENTRY = re.compile(r"\.visible \.entry (\w+)\((.*?)\)(.*?)\n\{(.*)\n\}", re.DOTALL)


class Operation(NamedTuple):
    """An instruction: its name's parts, its operands, and the predicate it depends on, with what that has to be."""

    parts: tuple[str, ...]
    operands: tuple
    guard: tuple[str, bool] | None
    text: str


class Address(NamedTuple):
    """What stands in brackets: a register or a name, an offset, and coordinates."""

    base: str
    offset: int
    coordinates: tuple = ()


class Constant(NamedTuple):
    """A floating point number by its bits."""

    bits: int


class Program(NamedTuple):
    """A kernel: operations, where labels are, the bits of registers, parameters, and shared arrays with alignment and size.

    Its blocks come in clusters of so many neighbours.
    """

    operations: list[Operation]
    labels: dict[str, int]
    registers: dict[str, int]
    parameters: list[str]
    shared: list[tuple[str, int, int | None]]
    cluster: int


def parse(text: str) -> Program:
    """Read the one kernel of a module."""
    [(_, parameters, directives, body)] = ENTRY.findall(text)
    cluster = re.search(r"\.explicitcluster\s+\.reqnctapercluster (\d+), 1, 1\s", directives)
    shared = [(name, int(align), int(size) if size else None) for align, name, size in SHARED.findall(text)]
    program = Program([], {}, {}, re.findall(r"\.param \.u64 (\w+)", parameters), shared, int(cluster[1]) if cluster else 1)
    assert len(program.parameters) == parameters.count(".param"), "parameters are words of 8 bytes"
    scopes: list[dict[str, str]] = [{}]
    at, count = 0, 0
    while at < len(body.rstrip()):
        found = STATEMENT.match(body, at)
        assert found, body[at : at + 80]
        at = found.end()
        _, brace, label, statement = found.groups()
        if brace == "{":
            count += 1
            scopes.append({"": f"@{count}"})
        elif brace == "}":
            scopes.pop()
        elif label is not None:
            program.labels[_named(label, scopes, new=True)] = len(program.operations)
        elif statement is not None and (statement := statement.strip()):
            _statement(statement, program, scopes)
    return program


def _named(name: str, scopes: list[dict[str, str]], new: bool = False) -> str:
    """A name as it is known outside of its braces."""
    if new and len(scopes) > 1:
        scopes[-1][name] = name + scopes[-1][""]
    return next((scope[name] for scope in reversed(scopes) if name in scope), name)


def _statement(statement: str, program: Program, scopes: list[dict[str, str]]) -> None:
    if statement.startswith(".reg"):
        _, kind, names = statement.split(None, 2)
        for name in re.split(r",\s*", names):
            prefix, _, many = name.partition("<")
            for one in [prefix + str(i) for i in range(int(many[:-1]))] if many else [prefix]:
                program.registers[_named(one, scopes, new=True)] = WIDTHS[kind[1:]]
        return
    if statement.startswith("."):
        assert statement.startswith((".pragma", ".loc")), statement
        return
    found = re.fullmatch(r"(?:@(!?)([\w%]+)\s+)?(\S+)\s*(.*)", statement, re.DOTALL)
    assert found, statement
    negated, guard, name, rest = found.groups()
    operands = tuple(_operand(one, scopes) for one in _cut(rest))
    condition = (_named(guard, scopes), not negated) if guard else None
    program.operations.append(Operation(tuple(name.split(".")), operands, condition, statement))


def _cut(text: str) -> list[str]:
    """What commas outside of brackets divide."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _operand(text: str, scopes: list[dict[str, str]]):
    if text.startswith("{"):
        return tuple(_operand(one, scopes) for one in _cut(text[1:-1]))
    if text.startswith("["):
        base, _, coordinates = text[1:-1].partition(",")
        base, offset = re.fullmatch(r"([\w%$]+)(?:\+(-?\d+))?", base.strip()).groups()
        more = _operand(coordinates.strip(), scopes) if coordinates else ()
        return Address(_named(base, scopes), int(offset or 0), more)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if text[:2] in ("0f", "0d"):
        return Constant(int(text[2:], 16))
    return _named(text, scopes)
