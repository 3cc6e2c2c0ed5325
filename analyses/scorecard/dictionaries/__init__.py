"""A scorecard of dictionaries: four measures, one module each, without a network or a language model as a judge."""
