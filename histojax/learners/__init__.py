"""Learners: from descriptors, or from images, to an ensemble of models and their scores."""
