"""DeepInsight: where columns lie in the plane, and the images of rows on the device."""
