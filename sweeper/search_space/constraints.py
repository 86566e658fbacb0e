"""Rules between parameters, `loss.lambda_param + loss.lambda_joint >= 0.1`: a small language of numbers.

The text is parsed by Python's own parser and turned into functions node by node; whatever is not listed here is
refused, and nothing is ever evaluated as Python.
"""

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

LONGEST = 500
LANGUAGE: Final = (
    "a constraint consists of names of parameters, numbers, + - * / **, comparisons, and, or, not, min, max, log"
)

Values = Mapping[str, Any]
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # of floats: neither huge integers nor complex numbers
}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: Final[dict[str, tuple[Callable[..., float], int, int]]] = {  # with the fewest and most arguments
    "min": (min, 2, 20),
    "max": (max, 2, 20),
    "log": (math.log, 1, 1),
}


@dataclass(frozen=True)
class Constraint:
    """A parsed constraint.

    Attributes:
        text: as the file has it.
        names: the parameters it speaks of.
        test: whether values of all of them meet it.
    """

    text: str
    names: frozenset[str]
    test: Callable[[Values], bool]

    def holds(self, values: Values) -> bool:
        """Whether the values meet it. It does not apply to a trial that lacks one of its parameters; what cannot be
        computed (a division by zero, the logarithm of a negative number) is not met."""
        if not self.names <= values.keys():
            return True
        try:
            return self.test(values)
        except (ValueError, ZeroDivisionError, OverflowError):
            return False


@lru_cache(maxsize=256)
def parse_constraint(text: str) -> Constraint:
    """The constraint a text says.

    Raises:
        ValueError: the text is not a valid constraint; says which part is not understood.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a constraint has at most {LONGEST} characters, this one {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"cannot read the constraint: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError):
        raise ValueError("cannot read the constraint") from None
    names: set[str] = set()
    test = _truth(tree, names)
    return Constraint(text, frozenset(names), test)


def all_hold(constraints: Iterable[str], values: Values) -> bool:
    """Whether a trial's parameters meet every constraint."""
    return all(parse_constraint(text).holds(values) for text in constraints)


def _truth(node: ast.expr, names: set[str]) -> Callable[[Values], bool]:
    match node:
        case ast.BoolOp(op=ast.And()):
            parts = [_truth(value, names) for value in node.values]
            return lambda values: all(part(values) for part in parts)
        case ast.BoolOp(op=ast.Or()):
            parts = [_truth(value, names) for value in node.values]
            return lambda values: any(part(values) for part in parts)
        case ast.UnaryOp(op=ast.Not()):
            inner = _truth(node.operand, names)
            return lambda values: not inner(values)
        case ast.Compare(ops=ops) if all(type(op) in _COMPARISONS for op in ops):
            sides = [_number(side, names) for side in (node.left, *node.comparators)]
            signs = [_COMPARISONS[type(op)] for op in ops]

            def compare(values: Values) -> bool:
                found = [side(values) for side in sides]
                return all(sign(found[i], found[i + 1]) for i, sign in enumerate(signs))

            return compare
    raise ValueError(f"expected a comparison but got `{ast.unparse(node)}`")


def _number(node: ast.expr, names: set[str]) -> Callable[[Values], float]:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value) if abs(value) < 1e300:
            constant = float(value)
            return lambda values: constant
        case ast.Name() | ast.Attribute() if name := _name(node):
            names.add(name)
            return lambda values: float(values[name])
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op):
            inner, sign = _number(node.operand, names), -1.0 if isinstance(op, ast.USub) else 1.0
            return lambda values: sign * inner(values)
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            left, right, combine = _number(node.left, names), _number(node.right, names), _ARITHMETIC[type(op)]
            return lambda values: combine(left(values), right(values))
        case ast.Call(func=ast.Name(id=called), keywords=[]) if called in _FUNCTIONS:
            function, fewest, most = _FUNCTIONS[called]
            if not fewest <= len(node.args) <= most:
                raise ValueError(f"`{called}` takes {fewest} argument{'s or more' * (most > fewest)}")
            arguments = [_number(argument, names) for argument in node.args]
            return lambda values: function(*(argument(values) for argument in arguments))
    raise ValueError(f"`{ast.unparse(node)}` is not allowed in a constraint")


def _name(node: ast.expr) -> str | None:
    """The dotted name, or None if something other than names is dotted."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            above = _name(node.value)
            return above and f"{above}.{node.attr}"
    return None
