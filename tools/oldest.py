"""The lowest version of each requirement that settings.ini promises, as constraints for pip.

torch>=2.6 becomes torch==2.6.*
"""
import configparser
from pathlib import Path

def oldest(requirement):  # 'torch>=2.6'
    name, version = requirement.split('>=')
    release = version if '.' in version else f'{version}.0'  # 8 promises 8.0
    return f'{name}=={release}.*'

def main():
    ini = configparser.ConfigParser()
    ini.read(Path(__file__).resolve().parent.parent/'settings.ini')
    print(*map(oldest, ini['DEFAULT']['requirements'].split()), sep='\n')

if __name__ == '__main__': main()
