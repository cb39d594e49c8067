"""The straightforward forms that our speed is compared with: what a careful reader of the papers writes first."""
