"""What people do with Meterfold: define metrics and thresholds, and see where usage stands."""
