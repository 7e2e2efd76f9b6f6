"""The exercises of the lessons and the checks that grade them."""
