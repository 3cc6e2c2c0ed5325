"""A scorecard of dictionaries: four measures, a module each, that need no network and no language model that judges."""
