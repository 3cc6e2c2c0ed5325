"""Small models that show one thing each, to be read in one sitting."""
