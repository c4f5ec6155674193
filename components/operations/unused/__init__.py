"""What nothing needs any more, in the store and in the home: found, shown, and freed (`genwright gc`)."""
