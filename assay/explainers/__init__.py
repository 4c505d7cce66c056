"""Who answers: one file a family of methods."""
