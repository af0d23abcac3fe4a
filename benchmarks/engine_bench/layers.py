"""The engine layer by layer, against what a core of this machine can do: `shoestring profile`, cut to fit a table."""

from shoestring.core.profile import Operator, Profile

SHOWN = 12


def print_layers(network: str, zeros: str, found: Profile) -> None:
    """The slowest layers, what the others take together, and the sums of each kind."""
    roof = found.roof
    print(f"\nlayers: {network} {zeros}, {found.ms:.2f} ms; peak {roof.gmacs:.0f} GMAC/s ({roof.how})")
    for operator in found.operators[:SHOWN]:
        print(line(found, operator, operator.node))
    print(f"  {f'{len(found.operators[SHOWN:])} others':38}{sum(op.ms for op in found.operators[SHOWN:]):30.3f} ms")
    for kind, count in found.by_label():
        print(line(found, kind, f"all {count} together"))


def line(found: Profile, operator: Operator, name: str) -> str:
    share = operator.gmacs / found.roof.gmacs
    reached = f"{operator.gmacs:9.1f} GMAC/s{share:6.0%} of the peak" if operator.executed else ""
    return f"  {name:38}{operator.label:22}{operator.ms:8.3f} ms{found.share(operator):6.0%}{reached}"
