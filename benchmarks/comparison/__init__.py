"""What compare_models.py is made of: data sets, trainings, predictions, the probe of x_t, tables."""
