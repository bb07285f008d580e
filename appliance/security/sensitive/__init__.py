"""Personal data and secrets in text: found by their form, and by their check digits where they have some."""
