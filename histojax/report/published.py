"""The published accuracies to set beside ours on BACH: Rakhlin et al. 2018, Table 1, in percent by fold.

The same numbers stand in third_party/rakhlin2018_table1.csv. The rows of single models average five seeds: folds have
40 images, yet accuracies are multiples of 0.5 %, not of 2.5 %; and their deviations are larger than those of the
averages over folds, as they would be over folds and seeds. The last row is of the blend, its deviation over folds.
"""

ACCURACY = {
    "ResNet-400": (92.0, 77.5, 86.5, 87.5, 79.5, 84.0, 85.0, 83.0, 84.0, 82.5),
    "ResNet-650": (91.0, 77.5, 86.0, 89.5, 81.0, 74.0, 85.5, 83.0, 84.5, 82.5),
    "VGG-400": (87.5, 83.0, 81.5, 84.0, 84.0, 82.5, 80.5, 82.0, 87.5, 83.0),
    "VGG-650": (89.5, 85.5, 78.5, 85.0, 81.0, 78.0, 81.5, 85.5, 89.0, 80.5),
    "Inception-400": (93.0, 86.0, 71.5, 92.0, 85.0, 84.5, 82.5, 79.0, 79.5, 76.5),
    "Inception-650": (91.0, 84.5, 73.5, 90.0, 84.0, 81.0, 82.0, 84.5, 78.0, 77.0),
    "Model fusion": (92.5, 82.5, 87.5, 87.5, 87.5, 90.0, 85.0, 87.5, 87.5, 85.0),
}

# Mean and standard deviation as printed.
MEAN_AND_DEVIATION = {
    "ResNet-400": (84.2, 4.2),
    "ResNet-650": (83.5, 5.2),
    "VGG-400": (83.6, 2.9),
    "VGG-650": (83.4, 4.4),
    "Inception-400": (83.0, 6.5),
    "Inception-650": (82.5, 5.5),
    "Model fusion": (87.2, 2.6),
}

# Two classes: accuracy mean and deviation over folds in percent, ROC AUC, and (sensitivity, specificity) by set-point.
TWO_CLASS_ACCURACY = (93.8, 2.3)
TWO_CLASS_AUC = 0.973
SET_POINTS = {0.33: (96.5, 88.0), 0.50: (93.0, 94.5)}


def row_name(configuration: str) -> str:
    """The paper's name of a configuration at scale 0.5, ResNet-0.5-400 as ResNet-400; others keep their own."""
    encoder, at_half_scale, crop_size = configuration.partition("-0.5-")
    return f"{encoder}-{crop_size}" if at_half_scale else configuration
