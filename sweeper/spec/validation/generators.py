"""Whether the generators of a fractional factorial design make sense."""

from collections.abc import Iterator, Mapping

from sweeper.spec.design import Ablation, Factor, baseline_levels, defining_words, letters_of, parse_generator
from sweeper.spec.reading.yaml_reader import SpecFinding


def check_generators(ablation: Ablation, factors: Mapping[str, Factor]) -> Iterator[SpecFinding]:
    """Whether each sets a different factor from factors that none sets, and the main effects stay separable."""
    letters, root = letters_of(factors), ("ablation", "generators")
    if not ablation.generators:
        help = "for example [`D = ABC`]: one letter per factor, in the order written"
        yield SpecFinding(root, "missing key `generators`", help)
        return
    parsed = []
    for index, text in enumerate(ablation.generators):
        try:
            parsed.append((index, *parse_generator(text)))
        except ValueError as error:
            yield SpecFinding((*root, index), str(error), "one letter per factor, in the order written")
    if len(parsed) < len(ablation.generators):
        return
    made: dict[str, int] = {}
    broken = False
    for index, left, _, right in parsed:
        unknown = sorted({letter for letter in left + right if letter not in letters})
        others = {other for at, other, _, _ in parsed if at != index}
        what = None
        if unknown:
            what = f"there is no factor {unknown[0]}: the {len(letters)} factors are A to {max(letters)}"
        elif left in made:
            what = f"{left} is set twice"
        elif left in right or set(right) & others:
            what = "a generator is a product of factors that no generator sets"
        elif len(set(right)) < len(right):
            what = "a letter appears twice"
        if what:
            broken = True
            yield SpecFinding((*root, index), what)
        made.setdefault(left, index)
    if broken:
        return
    for word in defining_words(ablation.generators):
        if len(word.letters) < 3:
            one, other = (f"{letter} (`{letters[letter]}`)" for letter in sorted(word.letters))
            index = max(made.get(letter, 0) for letter in word.letters)
            what = f"{one} and {other} are the same in every run, so their effects cannot be told apart"
            yield SpecFinding(
                (*root, index), what, "use a product of at least two factors, another one for each generator"
            )
            return


def check_fraction(ablation: Ablation, factors: Mapping[str, Factor]) -> Iterator[SpecFinding]:
    """The baseline must be one of the runs that are trained."""
    levels = baseline_levels(ablation.design, factors, ablation.baseline)
    signs = {
        letter: 1 if levels[name] == list(factors[name].levels)[1] else -1
        for letter, name in letters_of(factors).items()
    }
    for index, (left, sign, right) in enumerate(map(parse_generator, ablation.generators)):
        found = signs[left]
        for letter in right:
            found *= signs[letter]
        if found != sign:
            flipped = f"{left} = {'-' if sign > 0 else ''}{right}"
            what = f"`{ablation.generators[index]}` leaves the baseline out of the runs"
            yield SpecFinding(("ablation", "generators", index), what, f"write `{flipped}`, or choose another baseline")
