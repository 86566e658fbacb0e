"""`sweeper enqueue`: a configuration that the user has chosen becomes a trial of a running or finished study."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sweeper.analysis.trial_lookup import look_up
from sweeper.errors import UserError
from sweeper.home import command_line
from sweeper.ledger.studies import find_study, open_ledger
from sweeper.ledger.study_lock import running_driver, study_lock
from sweeper.lifecycle.stop import ask_driver
from sweeper.search_space.conditions import Params, contains, exists, parents_first
from sweeper.search_space.constraints import all_hold
from sweeper.search_space.dimensions import AnyDimension, CategoricalDimension, ParamValue
from sweeper.search_space.unit import listed
from sweeper.spec.reading.messages import show
from sweeper.spec.reading.yaml_reader import parse_yaml
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.validation.feasibility import refusal


def enqueue(home: Path, study: str, settings: Sequence[str], like: str | None = None) -> str:
    """Add one trial to a study. Its driver runs it next; without a driver, the next run of the study does.

    Args:
        home: the study home.
        study: its name.
        settings: `key=value` of its parameters; a key may be the end of one, `lr` of `optim.lr`.
        like: a trial of the study, whose parameters it has unless `settings` changes them.

    Returns:
        What has happened, in a sentence.

    Raises:
        UserError: no such study or parameter, a parameter is missing, or no trial can have these values.
    """
    study_dir, spec = find_study(home, study)
    params = chosen_params(spec, settings, _params_like(home, study, like))
    said = "  ".join(f"{path}={value}" for path, value in params.items())
    if running_driver(study_dir) is not None:
        ask_driver(study_dir, "enqueue", params=params)
        return f"{study}: added, and next to run: {said}"
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        record = ledger.add_enqueued(spec, params)
    return f"{record.id}: added; `{command_line(home, 'resume', study)}` runs it: {said}"


def _params_like(home: Path, study: str, like: str | None) -> Params:
    if like is None:
        return {}
    [found] = look_up(home, like)
    if found.ledger.study != study or found.trial.control is not None:
        raise UserError(f"`{like}` is not a candidate of `{study}`", "--like", f"for example `{study}:best`")
    return dict(found.trial.params)


def chosen_params(spec: SweepSpec, settings: Sequence[str], like: Mapping[str, ParamValue]) -> Params:
    """The parameters of a trial, complete and valid.

    Raises:
        UserError: they are not.
    """
    space = spec.search_space
    given = dict(_setting(text, space) for text in settings)
    params: Params = {}
    for path in parents_first(space):
        if not exists(space[path], params):
            continue
        if path not in given and path not in like:
            raise UserError(
                f"no value for `{path}`",
                help=f"say {path}=VALUE, or take what is left out from a trial with --like {spec.name}:best",
            )
        value = given.pop(path) if path in given else like[path]
        if not contains(space[path], value):
            raise UserError(f"`{path}` cannot be {show(value)}", help=f"it is {_values(space[path])}")
        params[path] = value
    if given:
        raise UserError(f"a trial with these values has no `{next(iter(given))}`", help="leave it out")
    if not all_hold(spec.constraints, params):
        raise UserError(f"the constraints of `{spec.name}` do not hold", help=f"they are {'; '.join(spec.constraints)}")
    if refused := refusal(spec, params):
        raise UserError(f"the trainer's config rejects it: {refused}")
    return params


def _setting(text: str, space: Mapping[str, AnyDimension]) -> tuple[str, Any]:
    """Path and value of one `key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise UserError(f"expected key=value but got {show(text)}", help=f"for example {next(iter(space))}=VALUE")
    named = [path for path in space if path == key] or [path for path in space if path.endswith(f".{key}")]
    if len(named) != 1:
        close = get_close_matches(key, list(space), n=1)
        help = f"did you mean `{close[0]}`?" if close else f"they are {', '.join(space)}"
        what = f"`{key}` stands for more than one parameter" if named else f"the search space has no parameter `{key}`"
        raise UserError(what, help=help)
    parsed = parse_yaml(value)
    if parsed.findings:
        raise UserError(f"cannot read {show(text)}: {parsed.findings[0].what}")
    number = parsed.data
    is_range = not isinstance(space[named[0]], CategoricalDimension) and listed(space[named[0]]) is None
    return named[0], float(number) if is_range and type(number) is int else number


def _values(dimension: AnyDimension) -> str:
    values = listed(dimension)
    if values is not None and len(values) <= 20:
        return f"one of {', '.join(show(value) for value in values)}"
    assert not isinstance(dimension, CategoricalDimension)
    return f"between {dimension.low:g} and {dimension.high:g}"
