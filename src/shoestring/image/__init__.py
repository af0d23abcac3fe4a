"""The modality of photographs: data, splits, the packaged demonstration set and the classification task."""
