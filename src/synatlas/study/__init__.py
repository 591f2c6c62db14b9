"""Studies: many journeys, one table."""
