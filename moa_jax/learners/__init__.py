"""Models that libraries fit on the host: logistic regression and boosted trees."""
