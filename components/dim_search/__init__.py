"""The DimSearch component: component.py is graph time, executor.py is run time."""
