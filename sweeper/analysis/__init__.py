"""What a study's numbers say: statistics, costs, comparisons. Nothing here prints."""
