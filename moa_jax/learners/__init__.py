"""Models that are fitted on the host: logistic regression and boosted trees."""
