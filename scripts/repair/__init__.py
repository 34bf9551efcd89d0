"""A model of another package, trained by that package, made stable here and run by it again."""
