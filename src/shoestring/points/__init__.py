"""The modality of point clouds: data, augmentation, made shapes, the classification task, measures of segmentation."""
