"""The load tester: many initiators against one responder, and what they measured."""
