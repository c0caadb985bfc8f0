"""Programs that use presets, one per verb of `zoo`. Installed as zoo.tools."""
