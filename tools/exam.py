"""An exam for one course, with numbers that no other course has, in a folder:

    exam/exam.md, exam/derivations.md                  for students: calculations; derivations to choose from
    instructor/exam_key.md, instructor/derivations.md  with every answer and what it is worth

    python tools/exam.py SEED [folder] [minutes]       alone; `make course` writes one too
"""
import re, secrets, sys
from dataclasses import dataclass
from pathlib import Path

from nbdev.config import get_config

@dataclass
class Derivation:
    title: str
    points: int
    problem: str   # Markdown
    answer: str

heading = re.compile(r'^## (.+) \((\d+) points\)$', re.M)

def points_of_parts(answer):
    "What the parts of an answer, `1. (4 points) ...`, are worth together"
    return sum(map(int, re.findall(r'^\d\. \((\d+) points?\)', answer, re.M)))

def derivations_in(
    file: Path,   # `## Title (10 points)`, the problem, `### Answer`, the answer
) -> list:        # of Derivation
    "The derivation problems of a file"
    parts = heading.split(file.read_text())[1:]
    found = []
    for title, points, body in zip(parts[::3], parts[1::3], parts[2::3]):
        problem, marker, answer = body.partition('\n### Answer\n')
        if not (marker and problem.strip() and answer.strip()):
            raise ValueError(f"{file.name}: {title!r} needs a problem, a line `### Answer` and an answer")
        given = points_of_parts(answer)
        if given != int(points):
            raise ValueError(f"{file.name}: {title!r} is worth {points} points, its parts {given}")
        found.append(Derivation(title, int(points), problem.strip(), answer.strip()))
    if not found: raise ValueError(f"{file.name} has no heading like `## Title (10 points)`")
    return found

def problems(found):
    "The problems, for students"
    parts = [f'## {d.title} ({d.points} points)\n\n{d.problem}' for d in found]
    advice = 'Choose as many as your instructor says. Show every step.'
    return '\n\n'.join(['# Written derivations', advice, *parts]) + '\n'

def with_answers(found):
    "The same with worked answers, for instructors"
    parts = [f'## {d.title} ({d.points} points)\n\n{d.problem}\n\n### Answer\n\n{d.answer}' for d in found]
    return '\n\n'.join(['# Written derivations, with answers', *parts]) + '\n'

def new_seed(): return secrets.token_hex(8)

seed_line = re.compile(r'^The seed of this exam: `(.+)`(?: \((\d+) minutes\))?$', re.M)   # ends a key

def noted_exam(
    to: Path,             # where `write_exam` wrote
) -> tuple | None:        # its seed and minutes
    "The exam whose key is in a folder; None if there is no key"
    file = to/'instructor/exam_key.md'
    found = seed_line.findall(file.read_text()) if file.exists() else []
    if not found: return None
    seed, minutes = found[-1]
    return seed, int(minutes or 45)

def write_exam(
    to: Path,
    seed: str,           # whoever has it can make the key
    minutes: int = 45,
):
    "Paper and key, problems and answers"
    from sskd_tutor.course.exam import draw_exam, key, paper
    asked = draw_exam(seed, minutes)
    found = derivations_in(get_config().config_path/'course/derivations.md')
    for folder in ('exam', 'instructor'): (to/folder).mkdir(parents=True, exist_ok=True)
    (to/'exam/exam.md').write_text(paper(asked))
    (to/'exam/derivations.md').write_text(problems(found))
    ending = f'The seed of this exam: `{seed}` ({minutes} minutes)'
    (to/'instructor/exam_key.md').write_text(f'{key(asked)}\n{ending}\n')
    (to/'instructor/derivations.md').write_text(with_answers(found))

def main(seed, to='_course', minutes=45): write_exam(Path(to), seed, int(minutes))

if __name__ == '__main__':
    if not sys.argv[1:]: sys.exit('give a seed: python tools/exam.py SEED [folder] [minutes]')
    main(*sys.argv[1:])
