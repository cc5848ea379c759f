"""What reads and writes folders: files, arrays, transforms, predictions, the work folder."""
