"""The ml-engineer: carries a request from briefing to a delivered, served and reversible model."""
