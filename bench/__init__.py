"""The benchmark suite: every loop in one interleaved run, medians, ratios and bars."""
