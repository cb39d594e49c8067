"""Studies: variants of a run's settings, trained on several data sets and seeds with equal budgets, in one table."""
