"""Settings, presets and the catalogue of models, read from TOML, and the paths of everything."""
