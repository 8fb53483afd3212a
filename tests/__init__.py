"""The tests, in tiers: unit, integration, acceptance and chaos; shared support in `tests.support`."""
