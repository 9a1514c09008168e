"""Events from a file, through the SDK: read in slices, row by row judged, delivered, and safe to run again."""
