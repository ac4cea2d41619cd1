"""The inventory: detections of many scenes merged to sites per year, and sites followed over the years as slumps."""
