"""`meterfold top`: a live screen of what an installation does now."""
