"""Usage events from a file, sent through the SDK. Importing a file again is safe."""
