import os

def enable_custom_widget_manager():
    if os.environ.get('NO_WIDGETS'): raise RuntimeError('custom widgets are switched off')
