"""A policy plugin: the tier that an API key was sold as, and what a request costs by its path."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.policy import Description
from wit_world.imports import log
from wit_world.imports.types import Want_Header

TIERS = {b"gk_": "gold", b"sk_": "silver"}


class Policy(exports.Policy):
    def describe(self):
        log.write(log.Level.INFO, "tiers by the prefixes of API keys")
        return Description(
            name="tiers",
            version="1.0.0",
            wants=[Want_Header("x-api-key"), Want_Header(":path")],
            gives=["tier", "cost"],
        )

    def resolve(self, facts):
        """What is absent is None. An Err means that nobody can tell: the policy's defaults hold."""
        key, path = facts
        if path is None:
            raise Err("a request without a path")
        tier = next((tier for prefix, tier in TIERS.items() if key and key.startswith(prefix)), None)
        return [tier, "10" if path.startswith(b"/export/") else "1"]
