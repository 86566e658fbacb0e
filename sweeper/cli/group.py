"""The list of verbs in `sweeper --help`, in the order in which a person meets them."""

from typing import Final

import click

SECTIONS: Final = {
    "Before": ("init", "convert", "check", "plan", "preflight", "data"),
    "Run": ("run", "submit", "slurm", "resume", "pause", "stop", "enqueue", "extend", "retry"),
    "Look": ("list", "status", "show", "config", "watch", "logs", "report", "ui", "dashboard"),
    "Conclude": ("winners", "ablate", "compare", "explain", "importance", "reproduce"),
    "Maintain": ("doctor", "sync", "gc", "rm"),
}


LONGEST: Final = 120
"""Characters of a verb's first sentence that are shown; it wraps."""


class SectionedGroup(click.Group):
    """A group that lists its verbs by section; those in no section come last."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the sections."""
        order = [verb for verbs in SECTIONS.values() for verb in verbs]
        return sorted(self.commands, key=lambda verb: (order.index(verb) if verb in order else len(order), verb))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A heading and a list for each section."""
        heading_of = {verb: heading for heading, verbs in SECTIONS.items() for verb in verbs}
        last = list(SECTIONS)[-1]
        for heading in SECTIONS:
            verbs = [verb for verb in self.list_commands(ctx) if heading_of.get(verb, last) == heading]
            with formatter.section(heading):
                formatter.write_dl([(verb, self.commands[verb].get_short_help_str(LONGEST)) for verb in verbs])
