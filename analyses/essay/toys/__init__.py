"""Small models that show one thing each, each readable in one sitting."""
