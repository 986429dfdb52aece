"""The input path under fire: structured mutations of real records, decoded and run through the whole pipeline."""
